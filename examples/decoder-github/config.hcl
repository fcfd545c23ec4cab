server {
  listen = env("LISTEN", "127.0.0.1:8080")
}

plugins {
  dir = "../../bin/plugins"
}

source "github" "code" { # POST /hooks/code
  secrets = [env("GITHUB_SECRET"), env("GITHUB_SECRET_NEXT", null)]
}

sink "file" "code" {
  dir = "data/code"
}

route "merged" {
  on   = ["github.pull_request.closed"]
  when = event.data.pull_request.merged

  to "file" "code" {
    path   = "merged.jsonl"
    record = { what = event.data.pull_request.title, who = event.data.sender.login, into = event.data.pull_request.base.ref }
  }
}

route "renamed" {
  on   = ["github.issues.edited"]
  when = event.changes["title"] != null

  to "file" "code" {
    path   = "renamed.jsonl"
    record = { issue = event.subject, from = event.changes["title"].old, to = event.changes["title"].new }
  }
}
