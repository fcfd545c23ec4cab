package config

import "context"

// Names are the names of a configuration's blocks, disabled ones included.
type Names struct{ Sources, Sinks, Routes []string }

// LoadNames reads which blocks a configuration has and nothing of what is in them. Mistakes do not matter as long as the
// files can be read.
func LoadNames(path string, opt Options) (Names, error) {
	l := newLoader(context.Background(), path, opt)
	if !l.read(path) {
		l.finish()
		return Names{}, l.diags.Err()
	}
	var n Names
	for kind, blocks := range l.split() {
		to := map[string]*[]string{"source": &n.Sources, "sink": &n.Sinks, "route": &n.Routes}[kind]
		if to == nil {
			continue
		}
		for _, b := range blocks {
			*to = append(*to, b.Labels[len(b.Labels)-1])
		}
	}
	return n, nil
}

// Nearest returns the candidate that is meant when a name is not among them, or "" if none is near enough.
func Nearest(name string, candidates []string) string { return nearest(name, candidates) }
