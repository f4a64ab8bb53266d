// Erasing asks first: nobody brings back what is erased.

import { call } from "../api.ts";
import { path, type StoredFile } from "../file.ts";
import { say } from "../notice.ts";
import { Confirm } from "../parts/dialog.tsx";
import { Name } from "../parts/name.tsx";
import { visible } from "../shown.ts";
import { useWork } from "../use.ts";

export function Erase({ file, close, erased }: { file: StoredFile; close: () => void; erased: () => void }) {
  const work = useWork();
  const erase = () =>
    void work.run(async () => {
      await call(path(file.id), { method: "DELETE" });
      say(`Erased: ${visible(file.name)}.`);
      erased();
    });
  return (
    <Confirm
      title={file.kind === "folder" ? "Erase this folder?" : "Erase this file?"}
      yes="Erase for ever"
      work={work}
      act={erase}
      close={close}
    >
      <p>
        <Name of={file.name} />
        {file.kind === "folder" && " and all that is in it"}
      </p>
      <p class="dim">
        Nodes destroy its key, and its link answers 410 Gone. Nobody can bring it back. Copies that others made stay
        with them.
      </p>
    </Confirm>
  );
}
