// The program: build.js makes one file of it and all that it imports, the contract's text too.
import contract from '../../sdk/proto/grapnel/plugin/v1/plugin.proto'
import { version } from './package.json'
import { sink } from './plugin.js'
import { serve } from './serve.js'

serve(sink, version, contract)
