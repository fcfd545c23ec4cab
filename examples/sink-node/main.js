// The program: build.js makes one file of it and all that it imports, the contract's text too.
import { serve } from './serve.js' // first: it keeps the prints of others from standard output
import contract from '../../sdk/proto/grapnel/plugin/v1/plugin.proto'
import { version } from './package.json'
import { sink } from './plugin.js'

serve(sink, version, contract)
