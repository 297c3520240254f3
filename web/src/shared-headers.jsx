// Signing in once is enough: headers typed in one tab hold for all of them, while GraphiQL alone keeps them tab by tab.
import { pick, useGraphiQL } from "@graphiql/react";
import { useEffect, useRef } from "react";

export function SharedHeaders() {
  const { headerEditor, tabs, activeTabIndex } = useGraphiQL(pick("headerEditor", "tabs", "activeTabIndex"));
  const { id } = tabs[activeTabIndex];
  const typed = useRef(null);

  useEffect(() => {
    const listening = headerEditor?.onDidChangeModelContent(({ isFlush }) => {
      // A flush is GraphiQL putting another tab's headers into the editor; only what a person typed is shared.
      if (!isFlush) typed.current = headerEditor.getValue();
    });
    return () => listening?.dispose();
  }, [headerEditor]);

  useEffect(() => {
    if (typed.current !== null) headerEditor.setValue(typed.current);
  }, [headerEditor, id]);
}
