// Writes pkg/provider/testdata/vectors/*.json: for each preset, requests that a
// source of that preset has to accept or to refuse, and who made them; and beside
// them handshakes/*.json: those with which providers test an address.
//
//	npm ci --ignore-scripts && npm run generate
import { mkdirSync, writeFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { cases } from './cases.mjs'
import { handshakes } from './handshakes.mjs'
import { providers } from './providers.mjs'

const dir = fileURLToPath(new URL('../../pkg/provider/testdata/vectors/', import.meta.url))
mkdirSync(dir, { recursive: true })
let failed = 0
for (const p of providers()) {
  try {
    const file = { preset: p.preset, origin: p.origin, ...(p.publicURL ? { public_url: p.publicURL } : {}), ...(p.keys ? { keys: p.keys, ...(p.root ? { root: p.root } : {}) } : {}), vectors: await cases(p) }
    writeFileSync(`${dir}${p.preset}.json`, JSON.stringify(file, null, 1) + '\n')
  } catch (error) {
    failed++
    console.error(`${p.preset}: ${error.stack}`)
  }
}
const shaken = fileURLToPath(new URL('../../pkg/provider/testdata/handshakes/', import.meta.url))
mkdirSync(shaken, { recursive: true })
for (const file of await handshakes()) {
  writeFileSync(`${shaken}${file.preset}.json`, JSON.stringify(file, null, 1) + '\n')
}
process.exit(failed ? 1 : 0)
