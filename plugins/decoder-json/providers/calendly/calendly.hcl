# Calendly: the word for the event is in the body, the record in "payload", and the signature covers a timestamp.
source "json" "meetings" {        # POST /hooks/meetings
  secrets = [env("CALENDLY_KEY")] # the subscription's signing key

  provider = "calendly"
  title    = "Calendly"

  signature { # Calendly-Webhook-Signature: t=1771056000,v1=5257a869…
    header    = "Calendly-Webhook-Signature"
    content   = "{timestamp}.{body}"
    separator = ","
    item_key  = "v1"
    timestamp {
      item      = "t"
      tolerance = "3m"
    }
  }

  event {
    type    = "{/event}"
    subject = "{/payload/uri}"
    tenant  = "{/created_by}"
    time    = "{/created_at}"
    data    = "/payload"
  }
  types = {
    "invitee.created" = {
      description = "Somebody has booked."
      sample      = { body = file("invitee-created.json") }
    }
    "invitee.canceled" = {
      operation = "deleted"
      sample    = { body = file("invitee-canceled.json") }
    }
  }
}

sink "file" "meetings" {
  dir = "data/meetings"
}

route "meetings" {
  on = ["calendly.invitee.*"]
  to "file" "meetings" {
    record = { who = event.data.email, what = event.data.scheduled_event.name, state = event.data.status }
  }
}
