// What is around every page: the way to the others, who is signed in, and what is said to everybody.

import { waiting } from "./api.ts";
import { notice } from "./notice.ts";
import { FilePage } from "./pages/file.tsx";
import { FilesPage } from "./pages/files.tsx";
import { NamesPage } from "./pages/names.tsx";
import { NetworkPage } from "./pages/network.tsx";
import { PoliciesPage } from "./pages/policies.tsx";
import { SignInPage } from "./pages/sign-in.tsx";
import { TokensPage } from "./pages/tokens.tsx";
import { Icon } from "./parts/icon.tsx";
import { link, route, SECTIONS, type Section } from "./route.ts";
import { session, signOut, type Session } from "./session.ts";
import { brief } from "./shown.ts";
import { uploads } from "./upload/queue.ts";

const TITLES: Record<Section, string> = {
  files: "Files",
  names: "Names",
  policies: "Policies",
  network: "Network",
  tokens: "Tokens",
};

export function Shell() {
  const now = session.value;
  return (
    <>
      {now === undefined && (
        <p class="empty" role="status">
          Loading…
        </p>
      )}
      {now === null && <SignInPage />}
      {now && <SignedIn now={now} />}
      <div class="notices" aria-live="polite">
        {waiting.value && <p>{waiting.value}</p>}
        {notice.value && <p>{notice.value}</p>}
      </div>
    </>
  );
}

function SignedIn({ now }: { now: Session }) {
  return (
    <div class="shell">
      <a class="skip" href="#main" onClick={toMain}>
        To the content
      </a>
      <nav aria-label="Console">
        <a class="brand" href={link("files")}>
          Evernear
        </a>
        <ul>
          {SECTIONS.map((section) => (
            <li key={section}>
              <Way section={section} />
            </li>
          ))}
        </ul>
        <div class="who">
          <span title={now.owner}>
            owner <code>{brief(now.owner)}</code>
          </span>
          <span>
            {now.token}, {now.scope}
          </span>
          <button type="button" class="plain" onClick={() => void signOut()}>
            Sign out
          </button>
        </div>
      </nav>
      <main id="main" tabIndex={-1}>
        <Current />
      </main>
    </div>
  );
}

function Way({ section }: { section: Section }) {
  const { page } = route.value;
  const isHere = page === section || (page === "file" && section === "files");
  const active = section === "files" ? uploads.value.filter((it) => it.state.value === "sending").length : 0;
  return (
    <a href={link(section)} {...(isHere ? { "aria-current": "page" as const } : {})}>
      <Icon name={section} /> {TITLES[section]}
      {active > 0 && (
        <span class="count" title={`${active} being sent`}>
          {active}
        </span>
      )}
    </a>
  );
}

function Current() {
  const { page, rest } = route.value;
  switch (page) {
    case "files":
      return <FilesPage />;
    case "file":
      return <FilePage key={rest} id={rest} />;
    case "names":
      return <NamesPage target={rest} />;
    case "policies":
      return <PoliciesPage />;
    case "network":
      return <NetworkPage />;
    case "tokens":
      return <TokensPage />;
  }
}

/** The fragment names the page, so this link must not change it. */
function toMain(event: Event): void {
  event.preventDefault();
  document.getElementById("main")?.focus();
}
