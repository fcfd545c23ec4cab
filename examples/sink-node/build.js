// Makes the plugin one executable file: node build.js FILE [ENTRY]
import { chmod } from 'node:fs/promises'
import { build } from 'esbuild'

const [outfile, entry = 'main.js'] = process.argv.slice(2)
// There is no PATH under the host, so the file names its interpreter: the one that builds it, or NODE.
const node = process.env.NODE ?? process.execPath

await build({
  entryPoints: [entry],
  outfile,
  bundle: true,
  platform: 'node',
  target: 'node20',
  format: 'cjs', // what Node takes a file without an extension for
  loader: { '.proto': 'text' },
  banner: { js: `#!${node}` },
  legalComments: 'inline'
})
await chmod(outfile, 0o755)
