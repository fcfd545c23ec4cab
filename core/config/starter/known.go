package starter

// hint is a start that a plugin's schema cannot tell: the expression of an attribute.
type hint struct {
	path []string
	text string // in which NAME stands for the block's name
	note string // a comment in place of the schema's description
}

// start is what is known about a plugin besides what it says about itself.
type start struct {
	config  []hint
	message map[string]string // attributes of the message, see message.go for the words in it
}

// known are the plugins of this repository that ask for more than their schema can explain.
var known = map[string]start{
	"decoder-json": {config: []hint{
		{[]string{"provider"}, `"NAME"`, "The first part of the event types."},
		{[]string{"event", "type"}, `"{/event}"`, "Where the provider's word for what happened stands in its JSON."},
		{[]string{"event", "subject"}, `"order/{/id}"`, "What the event is about."},
		{[]string{"types"}, `{
    "order.created" = {
      sample = { body = jsonencode({ event = "order.created", id = "1001", customer = "Ada Example", total = 12.5 }) }
    }
  }`, "The event types that are known, each with a request to try it. Replace it by what the provider documents; a file " +
			`is read with file("order.json").`},
		{[]string{"signature", "header"}, `"X-Signature"`, "The header with the HMAC-SHA256 of the body, in hexadecimal."},
		{[]string{"signature", "prefix"}, `"sha256="`, "What stands before it."},
	}},
	"sink-crm": {message: map[string]string{
		"object": `"contacts"`, "key": "{ external_id = ID }", "fields": "FIELDS",
	}},
}
