package main

import "github.com/grapnelhq/grapnel/sdk"

// The part of GitHub's records that routes are checked against; what else GitHub sends is under event.raw.

type user struct {
	Login string `json:"login"`
	ID    int64  `json:"id"`
}

type repository struct {
	ID            int64  `json:"id"`
	FullName      string `json:"full_name" doc:"owner/name."`
	Owner         user   `json:"owner"`
	Private       bool   `json:"private"`
	DefaultBranch string `json:"default_branch,omitempty"`
}

type commit struct {
	ID        string `json:"id"`
	Message   string `json:"message"`
	Timestamp string `json:"timestamp"`
	URL       string `json:"url,omitempty"`
	Author    struct {
		Name  string  `json:"name"`
		Email *string `json:"email"`
	} `json:"author"`
}

type push struct {
	Ref        string     `json:"ref" doc:"refs/heads/main."`
	Before     string     `json:"before"`
	After      string     `json:"after"`
	Forced     bool       `json:"forced"`
	Deleted    bool       `json:"deleted"`
	Commits    []commit   `json:"commits"`
	HeadCommit *commit    `json:"head_commit" doc:"Null where a branch was deleted."`
	Repository repository `json:"repository"`
	Sender     user       `json:"sender"`
}

type item struct {
	Number    int64   `json:"number"`
	Title     string  `json:"title"`
	Body      *string `json:"body"`
	State     string  `json:"state" enum:"open|closed"`
	HTMLURL   string  `json:"html_url"`
	User      user    `json:"user"`
	CreatedAt string  `json:"created_at"`
	UpdatedAt string  `json:"updated_at"`
	ClosedAt  *string `json:"closed_at"`
	Labels    []struct {
		Name string `json:"name"`
	} `json:"labels,omitempty"`
}

type issues struct {
	Action  string `json:"action"`
	Issue   item   `json:"issue"`
	Changes *map[string]struct {
		From *string `json:"from"`
	} `json:"changes" doc:"Of an edit: what was there before."`
	Repository repository `json:"repository"`
	Sender     user       `json:"sender"`
}

type branch struct {
	Ref string `json:"ref"`
	SHA string `json:"sha"`
}

type pullRequest struct {
	Action      string `json:"action"`
	Number      int64  `json:"number"`
	PullRequest struct {
		item
		Draft  bool   `json:"draft"`
		Merged bool   `json:"merged"`
		Head   branch `json:"head"`
		Base   branch `json:"base"`
	} `json:"pull_request"`
	Repository repository `json:"repository"`
	Sender     user       `json:"sender"`
}

type ping struct {
	Zen        string      `json:"zen" doc:"A proverb."`
	HookID     int64       `json:"hook_id"`
	Repository *repository `json:"repository"`
	Sender     *user       `json:"sender"`
}

// catalogue has the events with a sample, made after GitHub's documentation; every other event passes untyped.
var catalogue = []struct {
	typ, word string // the type without the provider, and X-GitHub-Event
	event     sdk.EventType
}{
	{"ping", "ping", sdk.EventType{Description: "A webhook was set up.", Data: sdk.MustSchema[ping]()}},
	{"push", "push", sdk.EventType{Description: "Commits or tags were pushed.", Data: sdk.MustSchema[push]()}},
	{"issues.opened", "issues", sdk.EventType{Description: "An issue was opened.", Data: sdk.MustSchema[issues]()}},
	{"issues.edited", "issues", sdk.EventType{Description: "Title or body were changed.", Data: sdk.MustSchema[issues]()}},
	{"issues.closed", "issues", sdk.EventType{Description: "An issue was closed.", Data: sdk.MustSchema[issues]()}},
	{"pull_request.opened", "pull_request", sdk.EventType{
		Description: "A pull request was opened.", Data: sdk.MustSchema[pullRequest](),
	}},
	{"pull_request.closed", "pull_request", sdk.EventType{
		Description: "A pull request was merged, or closed without that.", Data: sdk.MustSchema[pullRequest](),
	}},
}
