// The console starts here.

import { render } from "preact";
import { begin, isSomebodyElse, session } from "./session.ts";
import { Shell } from "./shell.tsx";
import { forget, recall } from "./upload/queue.ts";
import "./style.css";

const root = document.getElementById("page");
if (root) render(<Shell />, root);
void begin();

// A file that is dropped where nothing takes it would be opened in place of the console, and end what is under way.
for (const name of ["dragover", "drop"] as const) {
  addEventListener(name, (event) => event.dataTransfer?.types.includes("Files") && event.preventDefault());
}

// What was begun before is asked for once somebody is signed in: the server tells nothing to others. Somebody else's is
// none of theirs.
let isRecalled = false;
session.subscribe((now) => {
  if (!now) return;
  if (isSomebodyElse(now)) void forget();
  else if (!isRecalled) void recall();
  isRecalled = true;
});
