# What every case of this folder has besides its own routes.

source "youforce" "hr" {
  secrets = ["sixteen characters"]
}
source "peopleforce" "people" {
  secrets = ["sixteen characters"]
}
source "acculynx" "roofing" {
  path_token = "sixteen_characters"
}

sink "file" "audit" {
  dir = "events"
}
sink "slack" "ops" {
  mode  = "bot"
  token = "sixteen characters"
}
sink "http" "partner" {
  url = "https://partner.example.com/hooks"
}
sink "crm" "main" {
  dialect = "hubspot"
  token   = "sixteen characters"
}

route "base" {
  to "file" "audit" {}
  to "slack" "ops" {
    text = event.type
  }
  to "http" "partner" {}
  to "crm" "main" {
    object = "contacts"
    key    = { id = event.partitionkey }
  }
}
