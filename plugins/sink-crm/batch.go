package main

// MaxBatch implements sdk.Batcher: only the CRMs whose API takes several records per request get several deliveries per
// call.
func (c *Config) MaxBatch() int {
	switch c.Dialect {
	case "hubspot":
		return 100
	case "salesforce":
		return 200
	}
	return 1
}
