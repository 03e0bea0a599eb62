// A certificate authority of our own, for senders that sign with RSA under a key
// in a certificate. Keys are derived from words and PKCS #1 v1.5 uses no random
// numbers, so that each run gives the same.
import { checkPrimeSync, createHash, createPrivateKey, createPublicKey, sign } from 'node:crypto'

const bytes = (n) => { const h = n.toString(16); return Buffer.from(h.length % 2 ? '0' + h : h, 'hex') }
const number = (b) => BigInt('0x' + b.toString('hex'))

// prime is the first prime of that many bits that the word leads to and that e
// can be an exponent for.
function prime(word, bits, e) {
  for (let i = 0; ; i++) {
    const b = createHash('shake256', { outputLength: bits / 8 }).update(`${word} ${i}`).digest()
    b[0] |= 0xc0
    b[b.length - 1] |= 1
    const p = number(b)
    if ((p - 1n) % e !== 0n && checkPrimeSync(p)) return p
  }
}

function inverse(a, m) {
  let [r, s, x, y] = [m, a % m, 0n, 1n]
  while (s > 0n) { const q = r / s; [r, s, x, y] = [s, r - q * s, y, x - q * y] }
  return ((x % m) + m) % m
}

// rsa makes a key pair.
export function rsa(word, bits = 2048) {
  const e = 65537n
  const [p, q] = [prime(`${word} p`, bits / 2, e), prime(`${word} q`, bits / 2, e)]
  const d = inverse(e, (p - 1n) * (q - 1n))
  const text = (n) => bytes(n).toString('base64url')
  const jwk = { kty: 'RSA', n: text(p * q), e: text(e), d: text(d), p: text(p), q: text(q), dp: text(d % (p - 1n)), dq: text(d % (q - 1n)), qi: text(inverse(q, p)) }
  const key = createPrivateKey({ key: jwk, format: 'jwk' })
  return { key, spki: createPublicKey(key).export({ format: 'der', type: 'spki' }), sign: (text, hash = 'sha256') => sign(hash, Buffer.from(text), key).toString('base64') }
}

// What a certificate needs of DER (X.690).
function der(tag, ...parts) {
  const content = Buffer.concat(parts)
  const size = content.length < 128 ? Buffer.from([content.length]) : Buffer.concat([Buffer.from([0x80 | bytes(content.length).length]), bytes(content.length)])
  return Buffer.concat([Buffer.from([tag]), size, content])
}
const seq = (...parts) => der(0x30, ...parts)
const oid = (hex) => der(0x06, Buffer.from(hex, 'hex'))
const sha256WithRSA = seq(oid('2a864886f70d01010b'), der(0x05))
const name = (cn) => seq(der(0x31, seq(oid('550403'), der(0x0c, Buffer.from(cn)))))
const time = (iso) => der(0x17, Buffer.from(iso.slice(2, 19).replace(/[-:T]/g, '') + 'Z'))
const extension = (id, critical, value) => seq(oid(id), ...(critical ? [der(0x01, Buffer.from([0xff]))] : []), der(0x04, value))

// certificate is one for a host, or for an authority, as PEM.
export function certificate({ subject, authority = false, key, issuer, issuerKey, serial }) {
  const ca = extension('551d13', true, seq(...(authority ? [der(0x01, Buffer.from([0xff]))] : [])))
  const usage = extension('551d0f', true, der(0x03, Buffer.from(authority ? [1, 0x06] : [5, 0xa0])))
  const san = extension('551d11', false, seq(der(0x82, Buffer.from(subject))))
  const tbs = seq(
    der(0xa0, der(0x02, Buffer.from([2]))), der(0x02, Buffer.from([serial])), sha256WithRSA, name(issuer),
    seq(time('2025-01-01T00:00:00'), time('2049-01-01T00:00:00')), name(subject), key.spki,
    der(0xa3, seq(ca, usage, ...(authority ? [] : [san]))),
  )
  const sum = sign('sha256', tbs, issuerKey.key)
  const text = seq(tbs, sha256WithRSA, der(0x03, Buffer.from([0]), sum)).toString('base64').match(/.{1,64}/g).join('\n')
  return `-----BEGIN CERTIFICATE-----\n${text}\n-----END CERTIFICATE-----\n`
}
