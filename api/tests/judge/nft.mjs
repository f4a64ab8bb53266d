// npm's client of nft.storage, unchanged, against the twin: node nft.mjs ENDPOINT TOKEN. Prints what it was told.
import { NFTStorage, File, Blob } from 'nft.storage'

const [endpoint, token] = process.argv.slice(2)
const client = new NFTStorage({ endpoint: new URL(endpoint), token })
const noise = (bytes) => {
  const all = new Uint8Array(bytes)
  let state = 1
  for (let at = 0; at < bytes; at++) {
    state = (Math.imul(state, 1103515245) + 12345) >>> 0
    all[at] = state >>> 24
  }
  return all
}
const told = {}

const small = new Blob(['hello world'])
told.blob = await client.storeBlob(small)
told.blobEncoded = (await NFTStorage.encodeBlob(small)).cid.toString()
told.big = await client.storeBlob(new Blob([noise(3_000_000)]))
told.directory = await client.storeDirectory([
  new File(['<p>hi</p>'], 'site/index.html'),
  new File([noise(600_000)], 'site/img/deep/film.mp4'),
])
const [image, sound] = [new File([noise(300_000)], 'a cat.png', { type: 'image/png' }), new File(['meow'], 'meow.txt')]
const about = { name: 'a cat', description: 'it purrs', weight: 4.5, lives: 9 }
const nft = await client.store({ ...about, image, properties: { files: [sound], extra: { sound } } })
told.nft = { ipnft: nft.ipnft, url: nft.url }
// The same by a form. Newer versions of the client build the CAR themselves.
const form = new globalThis.FormData()
const part = (bytes, name) => new globalThis.File([bytes], name)
form.append('properties.extra.sound', part('meow', 'meow.txt'))
form.append('meta', JSON.stringify({ ...about, properties: { files: [null], extra: {} } }))
form.append('image', part(noise(300_000), 'a cat.png'))
form.append('properties.files.0', part('meow', 'meow.txt'))
const headers = { authorization: `Bearer ${token}` }
told.store = await fetch(new URL('store', endpoint), { method: 'POST', headers, body: form }).then((it) => it.json())
told.storeEncoded = nft.data
// A CAR in parts, as the client splits what is large.
const { cid, car } = await NFTStorage.encodeBlob(new Blob([noise(5_000_000)]))
let parts = 0
told.split = await client.storeCar(car, { maxChunkSize: 1_000_000, onStoredChunk: () => parts++ })
told.splitEncoded = cid.toString()
told.parts = parts

told.status = await client.status(told.big)
told.check = await client.check(told.big)
await client.delete(told.big)
told.gone = await client.status(told.big).then(() => 'there', (error) => error.message)
const other = new NFTStorage({ endpoint: new URL(endpoint), token: 'nonsense' })
told.refused = await other.storeBlob(small).then(() => 'taken', (error) => error.message)
console.log(JSON.stringify(told))
