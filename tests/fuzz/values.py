"""Hostile values as texts: of JSON for variables, of GraphQL for literals. They fit no type, or fit it and mean harm."""

import json
from collections.abc import Iterator, Sequence

DIGITS = "9" * 5_000
NUMBERS = (
    *("0", "-1", "1", "101", "2147483647", "2147483648", "-2147483649", "9007199254740993", "18446744073709551616"),
    *("-0.0", "0.5", "1.0", "1e308", "1e400", "-1e400", DIGITS, f"-{DIGITS}", f"0.{DIGITS}", f"1e{DIGITS}"),
)
NO_JSON = (
    "NaN",
    "Infinity",
    "-Infinity",
    "undefined",
    "'a'",
    "01",
    "+1",
    "0x10",
    '"\\ud800"',
    '"\\udc00\\ud800"',
    '"\\x"',
    '"\x00"',
)
SHAPES = (
    *("null", "true", "false", "[]", "{}", "[[]]", "[null]", "[{}]", '[""]', "[[[[[[null]]]]]]", '{"": ""}'),
    *("[" * depth + "]" * depth for depth in (50, 500, 1_100, 20_000)),
    *('{"a":' * depth + "1" + "}" * depth for depth in (50, 500, 1_100, 20_000)),
    *('{"not":' * depth + "{}" + "}" * depth for depth in (4, 5, 60, 500)),
    *('{"and":[' * depth + "{}" + "]}" * depth for depth in (5, 200)),
    "[" + ",".join(["null"] * 20_000) + "]",
    "[" + ",".join(['"a"'] * 20_000) + "]",
    "[" + ",".join(["{}"] * 20_000) + "]",
    "{" + ",".join(f'"k{number}":1' for number in range(10_000)) + "}",
    '{"eq":"a","eq":"b","eq":{"$ne":1}}',
    '{"id":"a","ref":"b"}',
    '{"or":[' + ",".join(['{"title":{"contains":"a"}}'] * 2_000) + "]}",
)
OPERATORS = (
    *('{"$gt":""}', '{"$ne":null}', '{"$where":"sleep(3000)"}', '{"$regex":"(a+)+$"}', '{"$in":[1]}', '{"a.b":1}', '{"$":1}'),
    *('{"eq":{"$ne":""}}', '{"in":[{"$gt":""}]}', '{"contains":{"$regex":".*"}}', '{"__proto__":{"isAdmin":true}}'),
    *('[{"$ne":1}]', '{"_id":{"$oid":"000000000000000000000000"}}', '{"$numberLong":"1"}', '{"$date":"1"}', '{"$or":[{},{}]}'),
)
TEXTS = (
    *("", " ", "\t\r\n", "\0", "a\0b", "\x01\x1b[31m\x7f", "\ufeff", "\ufffe\uffff", "\u202ered\u202c", "\u200b", "\u2028\u2029"),
    *("👩‍👩‍👧‍👦" * 60, "Z̷̡͎̈́a̶̢͝l̸̳̏g̵̬͝o̶̡͌" * 40, "مرحبا שלום", "ﷺ" * 250, "İıẞß", "𝒳" * 101, "\U0010ffff", "ａｂｃ"),
    *("x" * 201, "x" * 10_001, "x" * 200_000, "\\" * 1_000, '"' * 1_000, "(" * 200, "[" * 200),
    *("../../../../etc/passwd", "..\\..\\win.ini", "%2e%2e%2f%00", "/dev/null", "https://169.254.169.254/latest/meta-data"),
    *("%s%s%n%x%p", "{0.__class__.__mro__}", "{}{0}{a}", "${7*7}", "{{7*7}}", "<%= 7*7 %>", "#{7*7}", "${jndi:ldap://127.0.0.1/a}"),
    *("' OR '1'='1' --", "'; DROP TABLE users; --", '" || 1==1 //', "a'\"`;$(id)|&", "<script>alert(1)</script>", "]]>", "--"),
    *("$where", "$ne", "$title", "a.b.c", ".", "__proto__", "constructor", '{"$gt": ""}', "(a+)+$", ".*", "^", "-a -b", '"a', "*"),
    *(
        "null",
        "true",
        "NaN",
        "1e999",
        "todo",
        "Todo",
        "TODO ",
        "ASC;",
        "CREATED_AT",
        "DONE",
        "\u0130",
        "a@b",
        "@",
        "a" * 300 + "@a.de",
    ),
)
DATES = (
    *("0000-01-01T00:00:00Z", "0001-01-01T00:00:00+14:00", "0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z"),
    *("9999-12-31T23:59:59-23:59", "10000-01-01T00:00:00Z", "-2026-01-01T00:00:00Z", "2026-12-31T23:59:60Z"),
    *("2026-02-30T00:00:00Z", "2026-13-01T00:00:00Z", "2026-01-01T24:00:00Z", "2026-01-01T00:00:00+99:99", "2026-01-01"),
    *("2026-01-01T00:00:00", "2026-01-01T00:00:00.Z", f"2026-01-01T00:00:00.{DIGITS}Z", "٢٠٢٦-٠١-٠١T٠٠:٠٠:٠٠Z", "now", "1e9"),
)
CURSORS = (
    "A",
    "AAAA",
    "====",
    "-" * 64,
    "_" * 64,
    "A" * 65,
    "A" * 33,
    "AA AA",
    "é",
    "bnVsbA==",
    "eyIkZ3QiOiIifQ",
    "W10",
    "/+/+",
    "A" * 17,
    "A" * 10_000,
)
LITERALS = (
    *(
        "null",
        "true",
        "[]",
        "{}",
        "[[]]",
        "[null]",
        "{a: 1}",
        "{a: 1, a: 2}",
        '{eq: "a", eq: "b"}',
        "{__proto__: 1}",
        "todo",
        "TODO",
        "Todo",
    ),
    *("0", "-1", "101", "2147483648", "1e400", "-0.0", DIGITS, f"1e{DIGITS}", "01", "1.", ".5", "$nothing", "@skip", "NaN"),
    *(
        '""',
        '"\\u0000"',
        '"\\uD800"',
        '"\\u{110000}"',
        '"\\uD83D\\uDE00"',
        '"""\n  a\n"""',
        '"""',
        '"',
        '"\0"',
        '"\x01"',
        "\ufeff",
        "#\n1",
    ),
    *("[" * depth + "]" * depth for depth in (12, 300, 900)),
    *("{not: " * depth + "{}" + "}" * depth for depth in (4, 5, 300)),
    "[" + ",".join(["1"] * 1_500) + "]",
    '{title: {contains: {regex: ".*"}}}',
    '{id: "a", ref: "b"}',
    f'"{"x" * 200_000}"',
)


def variables(forged: Sequence[str]) -> Iterator[str]:
    """JSON texts, not all of them valid; `forged` are ids and cursors of others and of other things."""
    yield from (*NUMBERS, *NO_JSON, *SHAPES, *OPERATORS)
    yield from (json.dumps(text) for text in (*TEXTS, *DATES, *CURSORS, *forged))
    # As they are, not escaped.
    yield from (json.dumps(text, ensure_ascii=False) for text in TEXTS if not text.isascii())
    yield from (json.dumps([text] * 3) for text in forged)


def literals(forged: Sequence[str]) -> Iterator[str]:
    """GraphQL texts, not all of them valid."""
    yield from LITERALS
    yield from (json.dumps(text) for text in (*DATES, *CURSORS, *forged))
