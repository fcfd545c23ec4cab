package store

import (
	"errors"
	"time"
)

// BackupOrder asks for a copy of the database.
type BackupOrder struct {
	Path    string // of a file that is not there yet
	NoCheck bool   // do not look the copy through before it is called done
}

// The stages of a backup.
const (
	BackupCopying  = "copying"  // the unit is bytes
	BackupChecking = "checking" // how far it has come nobody knows
)

// BackupProgress is how far a backup has come.
type BackupProgress struct {
	Stage string `json:"stage"` // copying, checking
	Done  int64  `json:"done"`  // bytes copied
	Total int64  `json:"total"` // bytes to copy
}

// Backup tells what a backup holds.
type Backup struct {
	Path     string    `json:"path"`
	Bytes    int64     `json:"bytes"`
	At       time.Time `json:"at,omitzero"` // its moment: what was accepted before is in it; of a backup that was just made
	Requests int64     `json:"requests"`
	Newest   time.Time `json:"newest,omitzero"` // receipt of the newest request
	Checked  bool      `json:"checked"`         // it was looked through and found whole
}

// Errors of backups.
var (
	ErrBackupThere = errors.New("there is such a file already, and a backup overwrites nothing")
	ErrBackupBusy  = errors.New("another backup is under way")
	ErrBackupRoom  = errors.New("there is not enough room for the backup")
	ErrNoBackup    = errors.New("not a whole database of grapnel")
)
