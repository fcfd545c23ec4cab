package main

import "io/fs"

func ownerOf(fs.FileInfo) int { return -1 }

func writable(string) bool { return true }
