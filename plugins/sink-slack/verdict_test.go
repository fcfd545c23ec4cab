package main

import (
	"maps"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/grapnelhq/grapnel/plugins/sink-slack/internal/fakeslack"
	"github.com/grapnelhq/grapnel/sdk"
)

// hookWords are the words that incoming webhooks are documented to answer.
const hookWords = `action_prohibited channel_is_archived channel_not_found invalid_blocks invalid_payload invalid_token
	no_active_hooks no_service no_service_id no_team no_text posting_to_general_channel_denied rollup_error team_disabled
	too_many_attachments user_not_found`

// apiWords are those of chat.postMessage, chat.update and auth.test.
const apiWords = `access_denied accesslimited account_inactive app_access_restricted as_user_not_supported
	attachment_payload_limit_exceeded block_mismatch blocked_file_type cannot_reply_to_message cant_broadcast_message
	cant_update_message channel_not_found deprecated_endpoint draft_already_deleted draft_already_sent draft_has_conflict
	draft_not_found duplicate_channel_not_found duplicate_message_not_found edit_window_closed ekm_access_denied
	enterprise_is_restricted external_channel_migrating fatal_error file_deleted file_is_deleted file_not_found
	file_share_limit_reached internal_error invalid_arg_name invalid_arguments invalid_array_arg invalid_attachments
	invalid_auth invalid_blocks invalid_blocks_format invalid_charset invalid_form_data invalid_metadata_format
	invalid_metadata_schema invalid_post_type is_archived is_bot is_inactive markdown_text_conflict max_file_sharing_exceeded
	message_limit_exceeded message_not_found messages_tab_disabled metadata_must_be_sent_from_app metadata_too_large
	method_deprecated missing_file_data missing_post_type missing_scope msg_blocks_too_long msg_too_long
	no_dual_broadcast_content_update no_permission no_text not_allowed_token_type not_authed not_in_channel
	org_login_required posting_to_channel_denied rate_limited ratelimited request_timeout restricted_action
	restricted_action_non_threadable_channel restricted_action_read_only_channel restricted_action_thread_locked
	restricted_action_thread_only_channel send_on_behalf_not_allowed service_unavailable slack_connect_blocked_file_type
	slack_connect_canvas_sharing_blocked slack_connect_clip_sharing_blocked slack_connect_file_link_sharing_blocked
	slack_connect_file_upload_sharing_blocked slack_connect_lists_sharing_blocked streaming_state_conflict
	team_access_not_granted team_added_to_org team_not_found token_expired token_revoked too_many_attachments
	too_many_contact_cards two_factor_setup_required unable_to_share_files unknown_method update_failed`

// TestWords has the fake answer each of them. The expectation is written down by hand where a wrong class would hurt.
func TestWords(t *testing.T) { synctest.Test(t, testWords) }

func testWords(t *testing.T) {
	suspends := strings.Fields(`invalid_token no_active_hooks no_service no_service_id no_team team_disabled
		access_denied accesslimited account_inactive app_access_restricted deprecated_endpoint enterprise_is_restricted
		invalid_auth is_bot method_deprecated missing_scope no_permission not_allowed_token_type not_authed org_login_required
		team_access_not_granted token_expired token_revoked two_factor_setup_required unknown_method`)
	channels := strings.Fields(`action_prohibited channel_is_archived channel_not_found posting_to_general_channel_denied
		posting_to_channel_denied is_archived is_inactive not_in_channel ekm_access_denied restricted_action
		restricted_action_read_only_channel restricted_action_thread_only_channel messages_tab_disabled team_not_found
		restricted_action_of_tomorrow`)
	retries := strings.Fields(`rollup_error internal_error fatal_error service_unavailable request_timeout team_added_to_org
		update_failed message_limit_exceeded external_channel_migrating streaming_state_conflict ratelimited rate_limited`)
	for _, c := range []Config{webhookConfig(), botConfig()} {
		all := strings.Fields(hookWords)
		if c.Mode == modeBot {
			all = append(strings.Fields(apiWords), "restricted_action_of_tomorrow")
		}
		for _, word := range all {
			if _, known := words[word]; !known && !strings.HasSuffix(word, "tomorrow") {
				t.Errorf("%s is not classed", word)
			}
			h := newHarness(t, quick(c), fakeOptions(), nil)
			answer := func(message string) sdk.Outcome {
				h.fake.Fail(fakeslack.Failure{Word: word})
				return h.deliver("k", message)
			}
			o := answer(`{"text": "a"}`)
			want := sdk.Rejected
			switch {
			case slices.Contains(suspends, word), slices.Contains(channels, word):
				want = sdk.Suspended
			case slices.Contains(retries, word):
				want = sdk.Retried
			}
			if o.Kind != want || !strings.Contains(o.Reason, word) {
				t.Errorf("%s %s: %s %q, want %s", c.Mode, word, o.Kind, o.Reason, want)
			}
			if c.Mode == modeBot && slices.Contains(channels, word) {
				if o := answer(`{"text": "a", "channel": "#payroll"}`); o.Kind != sdk.Rejected || o.AttributePath[0] != "channel" {
					t.Errorf("%s in a channel of the route: %+v", word, o)
				}
			}
			if strings.Contains(word, "limited") != (o.After > 0) && word != "accesslimited" {
				t.Errorf("%s: after %s", word, o.After)
			}
			h.must("k", `{"text": "a"}`) // nothing is left of it in here
		}
	}
}

// TestReadmeWords keeps the README's table of words whole.
func TestReadmeWords(t *testing.T) {
	b, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, word := range slices.Sorted(maps.Keys(words)) {
		if !strings.Contains(string(b), "`"+word+"`") {
			t.Errorf("README.md lacks %s", word)
		}
	}
}

func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	for text, want := range map[string]time.Duration{
		"": 0, "30": 30 * time.Second, " 1 ": time.Second, "0": 0, "-5": 0, "1.5": 1500 * time.Millisecond,
		"1e99": longestAfter,
		"inf":  longestAfter, "nan": 0, "soon": 0, "Thu, 01 Jan 2026 12:01:00 GMT": time.Minute,
		"Thu, 01 Jan 2026 11:00:00 GMT":    0,
		"Thursday, 01-Jan-26 12:00:10 GMT": 10 * time.Second, "Thu, 01 Jan 2099 12:01:00 GMT": longestAfter,
	} {
		if got := retryAfter(text, now); got != want {
			t.Errorf("%q: %s, want %s", text, got, want)
		}
	}
}

// FuzzAnswer reads whatever a server may answer.
func FuzzAnswer(f *testing.F) {
	f.Add(200, "", "", "ok")
	f.Add(200, "", "application/json", `{"ok":true,"channel":"C1","ts":"1.2","message":{"thread_ts":"1.1"}}`)
	f.Add(200, "", "application/json",
		`{"ok":false,"error":"missing_scope","needed":"chat:write","provided":"x","response_metadata":{"messages":["a\nb"]}}`)
	f.Add(429, "30", "", `{"retry_after":1e400,"ok":false,"error":"rate_limited"}`)
	f.Add(404, "", "text/html", "no_service")
	f.Add(500, "Thu, 01 Jan 2026 12:01:00 GMT", "text/html", "<html>")
	f.Fuzz(func(t *testing.T, status int, after, kind, body string) {
		if status < 200 || status > 599 {
			return
		}
		header := http.Header{"Retry-After": {after}, "Content-Type": {kind}}
		for _, read := range []func(int, http.Header, []byte, time.Time) answer{readHook, readAPI} {
			a := read(status, header, []byte(body), time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC))
			if a.after < 0 || a.after > longestAfter {
				t.Errorf("after %s", a.after)
			}
			if a.ok {
				if status/100 != 2 {
					t.Errorf("%d is taken for success", status)
				}
				continue
			}
			if a.meaning().class == 0 {
				t.Error("no class")
			}
			for _, chosen := range []bool{false, true} {
				o := outcomeOf(t, a.outcome(chosen))
				if o.Kind == sdk.Delivered || o.Kind == sdk.Skipped || o.Reason == "" {
					t.Errorf("%+v", o)
				}
				if len(o.Reason) > 700 || strings.ContainsAny(o.Reason, "\n\x00\x1b") {
					t.Errorf("reason %q", o.Reason)
				}
			}
		}
	})
}

func TestReasons(t *testing.T) {
	for _, tt := range []struct {
		body, want string
	}{
		{`{"ok":false,"error":"missing_scope","needed":"chat:write","provided":"channels:read"}`,
			`slack answers missing_scope: add the scope to the app and install it again: ` +
				`needed: chat:write, provided: channels:read`},
		{`{"ok":false,"error":"invalid_arguments","response_metadata":{"messages":["[ERROR] must be a string [json-pointer:/text]"]}}`,
			`slack answers invalid_arguments: [ERROR] must be a string [json-pointer:/text]`},
		{`{"ok":false,"error":"` + strings.Repeat("x y ", 200) + `"}`,
			"slack answers 200: this is not Slack's answer; check the address: x y"},
	} {
		a := readAPI(200, http.Header{}, []byte(tt.body), time.Now())
		if got := a.reason(a.meaning()); !strings.HasPrefix(got, tt.want) || len(got) > 500 {
			t.Errorf("got %s\nwant %s", got, tt.want)
		}
	}
}
