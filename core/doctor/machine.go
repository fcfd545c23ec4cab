package doctor

import (
	"fmt"
	"io/fs"
	"time"
)

// Kind is what a file is for.
type Kind string

// The kinds of files whose permissions matter.
const (
	Config   Kind = "configuration"
	Secret   Kind = "secret"
	Folder   Kind = "data folder"
	Database Kind = "database"
	Socket   Kind = "control socket"
	Program  Kind = "plugin"
)

// File is a file or folder as the system tells about it.
type File struct {
	Path     string
	Kind     Kind
	Err      error // it cannot be looked at; what follows is not known then
	Mode     fs.FileMode
	Owner    int  // user id; -1: the system has none
	Spelt    bool // a configuration: secrets are spelt out in it
	Writable bool // by the user who looks
}

// Permissions checks who may read and change files. me is the user id of who looks; -1: the system has none. owner is whose
// the data folder is.
func Permissions(files []File, me, owner int) []Finding {
	f := findings{check: "permissions"}
	for _, x := range files {
		name := string(x.Kind)
		if x.Err != nil {
			f.problem(x.Path, fmt.Sprintf("the %s cannot be looked at: %v", name, x.Err), "run it as the user of the host")
			continue
		}
		mode, private := x.Mode.Perm(), x.Kind != Config && x.Kind != Program || x.Spelt
		if x.Mode&fs.ModeSocket != 0 {
			mode &^= 0o111
		}
		switch {
		case mode&0o002 != 0:
			f.problem(x.Path, fmt.Sprintf("everybody may change the %s (%04o)", name, mode), "chmod o-w "+x.Path)
		case mode&0o020 != 0 && x.Kind != Config:
			f.warn(x.Path, fmt.Sprintf("the group may change the %s (%04o)", name, mode), "chmod g-w "+x.Path)
		case private && mode&0o007 != 0:
			what := fmt.Sprintf("everybody may read the %s (%04o)", name, mode)
			if x.Spelt {
				what = fmt.Sprintf("everybody may read the configuration, and secrets are spelt out in it (%04o)", mode)
			}
			f.problem(x.Path, what, "chmod o= "+x.Path)
		}
		ours := x.Kind == Folder || x.Kind == Database || x.Kind == Socket
		switch {
		case ours && x.Owner != owner:
			f.problem(x.Path, fmt.Sprintf("the %s belongs to user %d, the data folder to %d", name, x.Owner, owner),
				fmt.Sprintf("chown %d %s", owner, x.Path))
		case ours && me > 0 && x.Owner != me:
			f.warn(x.Path, fmt.Sprintf("the %s belongs to user %d, not to who looks", name, x.Owner), "run it as the user of the host")
		case ours && !x.Writable:
			f.problem(x.Path, fmt.Sprintf("the %s is not writable (%04o)", name, mode), "chmod u+w "+x.Path)
		}
	}
	return f.orOK("", fmt.Sprintf("nobody else may read or change what is the host's own (%d files looked at)", len(files)))
}

// Disk is how much room there is, and how much is used.
type Disk struct {
	Dir                 string
	Free, MinFree, Size int64 // bytes; Size is the database's
	Requests, LastDay   int64 // stored; received in the last 24 hours
	Retention           time.Duration
}

// CheckDisk compares the room with storage.min_free, and with what retention will need if webhooks come as in the last day.
func CheckDisk(d Disk) []Finding {
	f := findings{check: "disk"}
	switch {
	case d.Free < d.MinFree:
		f.problem(d.Dir, fmt.Sprintf("%s are free, less than min_free (%s): webhooks are refused", size(d.Free), size(d.MinFree)),
			"make room, or lower storage.min_free or storage.retention")
	case d.Free < 2*d.MinFree:
		f.warn(d.Dir, fmt.Sprintf("%s are free, and webhooks are refused below min_free (%s)", size(d.Free), size(d.MinFree)),
			"make room")
	}
	const few = 1000 // so many say too little about the size of one
	if d.Requests >= few && len(f.list) == 0 {
		each := float64(d.Size) / float64(d.Requests)
		need := int64(each*float64(d.LastDay)*d.Retention.Hours()/24) - d.Size
		if need > d.Free-d.MinFree {
			f.warn(d.Dir, fmt.Sprintf("%s are free, but with %d requests a day of %s each the database will grow by %s within storage.retention",
				size(d.Free), d.LastDay, size(int64(each)), size(need)), "make room, or shorten storage.retention")
		}
	}
	return f.orOK(d.Dir, size(d.Free)+" are free")
}

func size(n int64) string {
	units := []string{"B", "KiB", "MiB", "GiB", "TiB"}
	v, i := float64(n), 0
	for ; v >= 1024 && i < len(units)-1; i++ {
		v /= 1024
	}
	if i == 0 {
		return fmt.Sprintf("%d B", n)
	}
	return fmt.Sprintf("%.1f %s", v, units[i])
}

// FileSystem checks the type of the data folder's file system, as Linux numbers it; 0: not known.
func FileSystem(dir string, magic int64) []Finding {
	f := findings{check: "filesystem"}
	network := map[int64]string{
		0x6969: "NFS", 0x517b: "SMB", 0xfe534d42: "SMB", 0xff534d42: "CIFS", 0x00c36400: "Ceph", 0x5346414f: "AFS", 0x6b414653: "AFS",
		0x0bd00bd0: "Lustre", 0x47504653: "GPFS", 0x7461636f: "OCFS2", 0x01161970: "GFS2", 0x73757245: "Coda",
	}
	switch name := network[magic]; {
	case name != "":
		f.problem(dir, "the data folder is on a network file system ("+name+"), where locks and shared memory do not hold",
			"put storage.path on a local disk")
	case magic == 0x65735546 || magic == 0x01021997:
		f.warn(dir, "the data folder is on a file system that may be another machine's (FUSE or 9P)",
			"put storage.path on a local disk if it is")
	case magic == 0x01021994 || magic == 0x858458f6:
		f.warn(dir, "the data folder is in memory: what it holds is gone with the next start of the machine",
			"put storage.path on a disk")
	}
	return f.orOK(dir, "no network file system")
}

// Temporary checks the folder that plugins' programs are run from.
func Temporary(dir string, noexec bool, err error) []Finding {
	f := findings{check: "temporary"}
	switch {
	case err != nil:
		f.problem(dir, fmt.Sprintf("the temporary folder cannot be used: %v", err), "make it, or set TMPDIR to another one")
	case noexec:
		f.problem(dir, "the temporary folder is mounted noexec, and plugins are run from there",
			"set TMPDIR to a folder where programs may run")
	}
	return f.orOK(dir, "plugins can run from the temporary folder")
}

// Clock is the time as it is told here and elsewhere.
type Clock struct {
	Now    time.Time
	Newest time.Time     // receipt of the newest request; zero: none
	Far    string        // who was asked; empty: nobody
	Skew   time.Duration // how far this clock is before Far's
	FarErr error
}

// CheckClock checks the time. Signatures with timestamps are mostly good for five minutes.
func CheckClock(c Clock) []Finding {
	f := findings{check: "clock"}
	const advice = "set the clock, and keep it with chrony or systemd-timesyncd"
	if ahead := c.Newest.Sub(c.Now); ahead > time.Minute {
		f.problem("", fmt.Sprintf("the newest request was received %s from now: the clock was or is wrong", ahead.Round(time.Second)), advice)
	}
	if c.Now.Year() < 2024 {
		f.problem("", "it is "+c.Now.UTC().Format(time.RFC3339)+" here", advice)
	}
	switch skew := c.Skew.Abs(); {
	case c.Far == "":
	case c.FarErr != nil:
		f.warn(c.Far, fmt.Sprintf("it does not tell the time: %v", c.FarErr), "compare the clock by other means: timedatectl")
	case skew > time.Minute:
		f.problem(c.Far, fmt.Sprintf("the clock differs by %s from there", c.Skew.Round(time.Second)), advice)
	case skew > 5*time.Second: // the header has whole seconds, and the answer takes its time
		f.warn(c.Far, fmt.Sprintf("the clock differs by %s from there", c.Skew.Round(time.Second)), advice)
	}
	return f.orOK("", "it is "+c.Now.Format("2006-01-02 15:04:05 -07:00"))
}

// Port is an address that a host listens at.
type Port struct {
	Setting, Address string
	Err              error  // it cannot be listened at; nil: it is free
	Ours             bool   // the running host listens there
	Holder           string // who does; empty: not known
}

// Ports checks whether a host could listen where it should, or does.
func Ports(ports []Port, running bool) []Finding {
	f := findings{check: "ports"}
	for _, p := range ports {
		where := p.Setting + " " + p.Address
		switch {
		case p.Err == nil && running:
			f.problem(where, "a host runs, and does not listen there", "grapnel run as configured: restart the host")
		case p.Err == nil || p.Ours:
		case p.Holder != "":
			f.problem(where, fmt.Sprintf("%s listens there (%v)", p.Holder, p.Err), "stop it, or choose another port")
		default:
			f.problem(where, fmt.Sprintf("the host cannot listen there: %v", p.Err), "see who does: ss -ltnp; or choose another port")
		}
	}
	state := "free"
	if running {
		state = "taken by the host that runs"
	}
	return f.orOK("", fmt.Sprintf("addresses are %s: %d", state, len(ports)))
}

// Descriptors checks the limit of open files of the host; limit 0: not known.
func Descriptors(limit uint64, connections, plugins int) []Finding {
	f := findings{check: "descriptors"}
	const own = 128   // database, log, control socket
	const admin = 512 // connections to the admin listener
	const each = 32   // of a plugin: pipes, sockets
	need := uint64(own + admin + each*plugins + connections)
	if limit > 0 && limit < need {
		f.warn("server.limits.connections", fmt.Sprintf("%d files may be open, and %d connections and %d plugins may need %d",
			limit, connections, plugins, need), fmt.Sprintf("LimitNOFILE=%d in the unit, or fewer connections", need))
	}
	return f.orOK("", fmt.Sprintf("%d files may be open", limit))
}
