// Writes pkg/provider/testdata/vectors/*.json: for each preset, requests that a
// source of that preset has to accept or to refuse, and who made them.
//
//	npm ci --ignore-scripts && npm run generate
import { mkdirSync, writeFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { cases } from './cases.mjs'
import { providers } from './providers.mjs'

const dir = fileURLToPath(new URL('../../pkg/provider/testdata/vectors/', import.meta.url))
mkdirSync(dir, { recursive: true })
let failed = 0
for (const p of providers()) {
  try {
    const file = { preset: p.preset, origin: p.origin, ...(p.publicURL ? { public_url: p.publicURL } : {}), vectors: await cases(p) }
    writeFileSync(`${dir}${p.preset}.json`, JSON.stringify(file, null, 1) + '\n')
  } catch (error) {
    failed++
    console.error(`${p.preset}: ${error.stack}`)
  }
}
process.exit(failed ? 1 : 0)
