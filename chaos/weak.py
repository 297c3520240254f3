"""`taskgraph` with its durability taken away, for the negative control alone: a write counts as done when the primary has it.

There is no setting for this, and there should be none. It shows that the checks would notice.
"""

from pymongo.write_concern import WriteConcern

from taskgraph import __main__ as taskgraph
from taskgraph.storage import mongo

if __name__ == "__main__":
    mongo.MAJORITY = WriteConcern(1)
    taskgraph.main()
