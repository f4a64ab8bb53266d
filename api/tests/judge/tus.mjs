// npm's client of tus, unchanged, against the twin: node tus.mjs ENDPOINT TOKEN BYTES. The way breaks on the way there.
import { Upload } from 'tus-js-client'
import { Buffer } from 'node:buffer'

const [endpoint, token, bytes] = process.argv.slice(2)
const noise = (bytes) => {
  const all = Buffer.alloc(bytes)
  let state = 1
  for (let at = 0; at < bytes; at++) {
    state = (Math.imul(state, 1103515245) + 12345) >>> 0
    all[at] = state >>> 24
  }
  return all
}
const retries = []
const upload = (options, content) =>
  new Promise((resolve, reject) => {
    const it = new Upload(content, {
      endpoint: new URL('tus', endpoint).toString(),
      headers: { authorization: `Bearer ${token}` },
      retryDelays: [50, 100, 200, 300, 400, 500, 1000, 1000, 1000, 1000],
      metadata: { filename: 'film.mp4', filetype: 'video/mp4' },
      onShouldRetry: (error) => {
        retries.push(String(error.message).slice(0, 80))
        return true
      },
      onError: reject,
      onSuccess: () => resolve(it.url),
      ...options,
    })
    it.start()
  })
const told = {}
told.url = await upload({}, noise(Number(bytes)))
told.cuts = retries.length
told.chunked = await upload({ chunkSize: 500_000, uploadDataDuringCreation: true }, noise(1_700_000))
told.parallel = await upload({ parallelUploads: 3 }, noise(900_000))
const given = new Upload(noise(3_000_000), {
  endpoint: new URL('tus', endpoint).toString(),
  headers: { authorization: `Bearer ${token}` },
  chunkSize: 500_000,
})
await new Promise((resolve) => {
  given.options.onChunkComplete = resolve
  given.start()
})
await given.abort(true)
const answer = await fetch(given.url, {
  method: 'HEAD',
  headers: { authorization: `Bearer ${token}`, 'tus-resumable': '1.0.0' },
})
told.terminated = answer.status
console.log(JSON.stringify(told))
