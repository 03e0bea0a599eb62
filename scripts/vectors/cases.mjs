// The cases that every preset has to pass, derived from one way of signing.
import { mock } from 'node:test'

// signedAt is when every request was signed.
export const signedAt = 1760000000000
mock.timers.enable({ apis: ['Date'], now: signedAt })

const unicodeNote = 'Grüße aus Zürich, 日本語, 🚀, e\u0301'

// cases makes the vectors of one provider: p.sign gives the request, p.library
// is what the provider's own library says of one, where there is such a thing.
export async function cases(p) {
  const [secret, other] = p.secrets
  const ctx = { id: 'msg_2b9f', ms: signedAt, url: p.url, method: 'POST' }
  const sign = async (key, body, more = {}) => normalise(await p.sign(key, body, { ...ctx, ...more }), body)
  const valid = await sign(secret, p.body)
  const out = []
  const add = async (name, request, want, more = {}) => {
    const vector = { name, secrets: p.keyless ? [] : more.secrets ?? [p.public?.(secret) ?? secret], at: iso(more.at ?? signedAt), ...request, want }
    if (want === 'accept' && more.event !== false && p.event) vector.event = p.event
    if (p.library && more.library !== false) {
      mock.timers.setTime(more.at ?? signedAt)
      vector.library = (await says(p, more.key ?? secret, request)) ? 'accepts' : 'refuses'
      mock.timers.setTime(signedAt)
      if (more.agree !== false && (vector.library === 'accepts') !== (want === 'accept')) {
        throw new Error(`${p.preset}, ${name}: the library ${vector.library} it, want ${want}`)
      }
    }
    out.push(vector)
  }

  await add('valid', valid, 'accept')
  await add('tampered', p.tamper ? p.tamper(valid) : { ...valid, body: tampered(valid.body) }, p.credential ? 'mismatch' : p.tamperWant ?? 'mismatch')
  await add('wrong secret', await sign(other, p.body), 'mismatch')
  await add('rotated', await sign(secret, p.body), 'accept', { secrets: [p.public?.(other) ?? other, p.public?.(secret) ?? secret] })
  await add('unicode', await sign(secret, p.unicode ?? withNote(p.body)), 'accept', { agree: false })
  if (!p.inside) {
    await add('empty body', await sign(secret, ''), 'accept', { event: false, agree: false, library: p.emptyLibrary })
  } else {
    await add('empty body', { ...valid, body: '' }, p.emptyWant ?? 'malformed', { library: false })
  }
  if (p.missing) {
    await add('missing', p.missing(valid), 'missing', { agree: false, library: false })
  } else {
    await add('missing', { ...valid, headers: valid.headers.filter(([n]) => !isSignature(p, n)) }, 'missing', { library: false })
  }
  if (p.duplicated) {
    await add('duplicated', p.duplicated(valid), p.duplicatedWant ?? 'repeated', { agree: false, library: false })
  } else {
    const again = valid.headers.filter(([n]) => isSignature(p, n))
    await add('duplicated header', { ...valid, headers: [...valid.headers, ...again] }, 'repeated', { library: false })
  }
  if (p.tolerance) {
    const ms = p.tolerance * 1000
    await add('at the edge', valid, 'accept', { at: signedAt + ms, agree: false })
    await add('stale', valid, 'stale', { at: signedAt + ms + 1000, agree: false })
    await add('future', valid, 'future', { at: signedAt - ms - 1000, agree: false })
  }
  for (const extra of (await p.extra?.({ sign, valid, secret, other })) ?? []) {
    await add(extra.name, extra.request, extra.want, { agree: false, library: false, event: false, ...extra.more })
  }
  return out
}

async function says(p, key, request) {
  try {
    return Boolean(await p.library(key, { ...request, header: (n) => request.headers.find(([name]) => name.toLowerCase() === n.toLowerCase())?.[1] }))
  } catch {
    return false // how most of them refuse
  }
}

function normalise(signed, body) {
  const { headers, ...rest } = Array.isArray(signed) ? { headers: signed } : signed
  return { method: 'POST', ...(rest.url ? { url: rest.url } : {}), headers, body: rest.body ?? body }
}

const isSignature = (p, name) => p.signature.map((s) => s.toLowerCase()).includes(name.toLowerCase())
const iso = (ms) => new Date(ms).toISOString()
const withNote = (body) => (body.startsWith('{') ? body.replace(/}$/, `,"note":"${unicodeNote}"}`) : body.replace('{', `{"note":"${unicodeNote}",`))

// tampered changes one letter, and leaves JSON valid.
export function tampered(body) {
  const i = body.lastIndexOf('e')
  return body.slice(0, i) + 'E' + body.slice(i + 1)
}
