// Package pluginsource gets plugins' programs from where they are published: a file, a folder, an archive, or a mirror, which
// is a folder of archives on any web server. What comes from there is not trusted: names, sizes, kinds of entries and
// checksums are checked, and all of it lands in a folder of its own, under the names that it claims, before anybody asks
// it or moves it to where plugins are run from. The package runs nothing. It also makes mirrors.
package pluginsource
