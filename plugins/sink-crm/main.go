// Command grapnel-sink-crm is the Grapnel plugin that keeps records of a CRM as events say: HubSpot, Salesforce and, by
// declared steps, any other system with a JSON API.
package main

import "github.com/grapnelhq/grapnel/sdk/serve"

func main() { serve.Main(factory()) }
