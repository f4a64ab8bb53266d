// Makes the trees of unixfs/tests/it/trees.rs with IPFS's own code in JavaScript. Given a folder with `trees.json`, our
// CARs in `INDEX.ours.car` and our values in `INDEX.cbor`, writes their CARs as `INDEX.theirs.car`, and prints
// `{"cids": [...], "faults": [...]}`.
import { createHash } from 'node:crypto'
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { CarReader, CarWriter } from '@ipld/car'
import * as dagCbor from '@ipld/dag-cbor'
import { MemoryBlockstore } from 'blockstore-core'
import { createDirectoryEncoderStream } from 'ipfs-car'
import { exporter, recursive } from 'ipfs-unixfs-exporter'
import { importer } from 'ipfs-unixfs-importer'
import { fixedSize } from 'ipfs-unixfs-importer/chunker'
import { balanced } from 'ipfs-unixfs-importer/layout'
import { importer as importer9 } from 'ipfs-unixfs-importer-9'

const folder = process.argv.at(-1)
const faults = []

// The generator of contents, as `content` in trees.rs.
function content ({ seed, bytes }) {
  const made = new Uint8Array(bytes)
  for (let at = 0; at < bytes; at++) {
    seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0
    made[at] = seed >>> 24
  }
  return made
}

const entries = (tree) => tree.entries.map(({ path, seed, bytes }) =>
  seed === undefined ? { path } : { path, content: [content({ seed, bytes })] })

async function last (made) {
  let root
  for await (const entry of made) root = entry
  return root.cid
}

async function imported (tree, blocks) {
  if (tree.profile === 'nft-classic') {
    // What ipfs-car 0.6.2 asks of it, and the client and server of nft.storage of ipfs-car.
    const put = { put: (cid, block) => blocks.put(cid, block), get: (cid) => blocks.get(cid) }
    return last(importer9(entries(tree), put, {
      cidVersion: tree.version,
      rawLeaves: tree.raw,
      maxChunkSize: tree.chunk,
      maxChildrenPerNode: tree.width,
      shardSplitThreshold: tree.threshold,
      wrapWithDirectory: true
    }))
  }
  const named = { profile: tree.profile, wrapWithDirectory: true }
  const changed = {
    cidVersion: tree.version,
    rawLeaves: tree.raw,
    chunker: fixedSize({ chunkSize: tree.chunk }),
    layout: balanced({ maxChildrenPerNode: tree.width }),
    shardSplitThresholdBytes: tree.threshold
  }
  return last(importer(entries(tree), blocks, tree.named ? named : { ...named, ...changed }))
}

// What ipfs-car, which knows no profile but 1 MiB chunks in raw leaves, makes of a tree.
async function packed (tree) {
  const files = tree.entries.map((entry) => ({
    name: entry.path,
    stream: () => new Blob([content(entry)]).stream()
  }))
  const blocks = []
  await createDirectoryEncoderStream(files).pipeTo(new WritableStream({ write: (block) => { blocks.push(block) } }))
  return blocks
}

async function written (root, blocks) {
  const { writer, out } = CarWriter.create([root])
  const parts = (async () => {
    const parts = []
    for await (const part of out) parts.push(part)
    return Buffer.concat(parts)
  })()
  for (const block of blocks) await writer.put(block)
  await writer.close()
  return parts
}

const sha256 = (parts) => parts.reduce((hash, part) => hash.update(part), createHash('sha256')).digest('hex')

// Reads our CAR of a tree and puts its files together.
async function check (index, tree, file) {
  const car = await CarReader.fromBytes(readFileSync(file))
  const [root, ...more] = await car.getRoots()
  if (more.length > 0) faults.push(`${index}: our CAR has more than one root`)
  const blocks = new MemoryBlockstore()
  for await (const { cid, bytes } of car.blocks()) await blocks.put(cid, bytes)
  const wanted = new Map(tree.entries.filter((entry) => entry.seed !== undefined).map((entry) => [entry.path, entry]))
  for await (const { cid, path: whole } of recursive(root, blocks)) {
    const entry = await exporter(cid, blocks)
    if (entry.type === 'directory') continue
    const path = whole.slice(whole.indexOf('/') + 1)
    const parts = []
    for await (const part of entry.content()) parts.push(part)
    const file = wanted.get(path)
    if (file === undefined || sha256(parts) !== sha256([content(file)])) faults.push(`${index}: ${path} is another file`)
    wanted.delete(path)
  }
  for (const path of wanted.keys()) faults.push(`${index}: ${path} is not in our CAR`)
  return root
}

// A value has one spelling: what is read of ours is written the same.
for (let index = 0; existsSync(`${folder}/${index}.cbor`); index++) {
  const ours = readFileSync(`${folder}/${index}.cbor`)
  if (!ours.equals(dagCbor.encode(dagCbor.decode(ours)))) faults.push(`${index}: our dag-cbor is not canonical`)
}

const cids = []
for (const [index, tree] of JSON.parse(readFileSync(`${folder}/trees.json`, 'utf8')).entries()) {
  const blocks = new MemoryBlockstore()
  const root = await imported(tree, blocks)
  cids.push(root.toString())
  const ours = `${folder}/${index}.ours.car`
  if (!existsSync(ours)) continue
  const read = await check(index, tree, ours)
  if (!read.equals(root)) faults.push(`${index}: our CAR has the root ${read}`)
  let theirs = []
  if (tree.packs) {
    theirs = await packed(tree)
    const top = theirs.at(-1).cid
    if (!top.equals(root)) faults.push(`${index}: ipfs-car makes the root ${top}`)
  } else {
    // A memory of blocks forgets their codecs and versions: those of ours have the same names.
    const car = await CarReader.fromBytes(readFileSync(ours))
    for await (const { cid } of car.blocks()) {
      if (!blocks.has(cid)) {
        faults.push(`${index}: only our CAR has ${cid}`)
        continue
      }
      const parts = []
      for await (const part of blocks.get(cid)) parts.push(part)
      theirs.push({ cid, bytes: Buffer.concat(parts) })
    }
  }
  writeFileSync(`${folder}/${index}.theirs.car`, await written(root, theirs))
}
console.log(JSON.stringify({ cids, faults }))
