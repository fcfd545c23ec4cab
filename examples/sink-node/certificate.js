// The certificate that a plugin shows its host: for localhost, and signed by itself. Node makes keys and signatures but
// no certificates, so its few parts are put together here as RFC 5280 has them.
import { X509Certificate, generateKeyPairSync, randomBytes, sign } from 'node:crypto'

// der is one element of ASN.1's distinguished encoding.
function der(tag, ...parts) {
  const body = Buffer.concat(parts)
  const head = [tag]
  if (body.length < 0x80) head.push(body.length)
  else if (body.length < 0x100) head.push(0x81, body.length)
  else head.push(0x82, body.length >> 8, body.length & 0xff)
  return Buffer.concat([Buffer.from(head), body])
}

const sequence = (...parts) => der(0x30, ...parts)
const oid = (hex) => der(0x06, Buffer.from(hex, 'hex'))
const octets = (...parts) => der(0x04, ...parts)
const bits = (bytes) => der(0x03, Buffer.from([0]), bytes)
const utf8 = (text) => der(0x0c, Buffer.from(text))
const time = (date) => der(0x18, Buffer.from(date.toISOString().replace(/[-:T]|\..*(?=Z)/g, '')))
const isTrue = der(0x01, Buffer.from([0xff]))

// makeCertificate returns a new key and its certificate.
export function makeCertificate() {
  const { publicKey, privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  const ecdsaWithSHA256 = sequence(oid('2a8648ce3d040302'))
  const name = sequence(der(0x31, sequence(oid('550403'), utf8('localhost')))) // commonName
  const serial = Buffer.concat([Buffer.from([1]), randomBytes(15)]) // positive
  const extension = (id, critical, value) => sequence(oid(id), ...(critical ? [isTrue] : []), octets(value))
  const now = Date.now()
  const body = sequence(
    der(0xa0, der(0x02, Buffer.from([2]))), // version 3
    der(0x02, serial),
    ecdsaWithSHA256,
    name, // the issuer
    sequence(time(new Date(now - 60_000)), time(new Date(now + 30 * 365 * 86_400_000))),
    name,
    publicKey.export({ type: 'spki', format: 'der' }),
    der(0xa3, sequence(
      extension('551d13', true, sequence(isTrue)), // basicConstraints: the host trusts it as the CA that it is
      extension('551d0f', true, der(0x03, Buffer.from([2, 0x84]))), // keyUsage: digitalSignature, keyCertSign
      extension('551d25', false, sequence(oid('2b06010505070301'))), // extKeyUsage: serverAuth
      extension('551d11', false, sequence(der(0x82, Buffer.from('localhost')))) // subjectAltName
    ))
  )
  const certificate = sequence(body, ecdsaWithSHA256, bits(sign('sha256', body, privateKey)))
  return { privateKey, certificate: new X509Certificate(certificate) }
}
