// Drops paths of this machine onto a page, as a person does it from a file manager.

export async function drop(page, files) {
  const client = await page.createCDPSession();
  const data = { items: [], files, dragOperationsMask: 1 };
  for (const type of ["dragEnter", "dragOver", "drop"]) {
    await client.send("Input.dispatchDragEvent", { type, x: 300, y: 160, data });
  }
  await client.detach();
}
