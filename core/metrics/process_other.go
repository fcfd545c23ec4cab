//go:build !linux

package metrics

func usageOf(int) usage { return usage{} }
