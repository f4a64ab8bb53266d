// Who is not signed in: the one-time link, or a token.

import { useState } from "preact/hooks";
import { Field } from "../parts/field.tsx";
import { refused, signIn } from "../session.ts";

export function SignInPage() {
  const [token, setToken] = useState("");
  const [why, setWhy] = useState("");
  const [isBusy, setBusy] = useState(false);
  const submit = async (event: Event) => {
    event.preventDefault();
    setBusy(true);
    refused.value = "";
    const failed = await signIn({ token: token.trim() });
    setBusy(false);
    setWhy(failed === null ? "" : `This token does not sign in: ${failed}`);
  };
  const fault = why || refused.value;
  return (
    <main class="sign-in">
      <form class="card" onSubmit={(event) => void submit(event)}>
        <h1>Evernear</h1>
        <p>Open the link that the program printed when it started, or make a new one:</p>
        <pre>
          <code>evernear twin console</code>
        </pre>
        <p class="dim">A link counts once, for 10 minutes.</p>
        <Field
          label="Or sign in with a token"
          help="evernear twin token new NAME prints one. It is sent to this server only, and not kept by the page."
        >
          {(ids) => (
            <input
              {...ids}
              type="password"
              name="token"
              autocomplete="current-password"
              required
              value={token}
              spellcheck={false}
              onInput={(event) => setToken(event.currentTarget.value)}
            />
          )}
        </Field>
        {fault && (
          <p class="fault" role="alert">
            {fault}
          </p>
        )}
        <p class="actions">
          <button class="main" disabled={isBusy}>
            {isBusy ? "Signing in…" : "Sign in"}
          </button>
        </p>
      </form>
    </main>
  );
}
