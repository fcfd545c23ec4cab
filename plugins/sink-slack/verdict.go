package main

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/grapnelhq/grapnel/sdk"
)

// class is what an answer means for the delivery and the sink.
type class int

const (
	reject    class = iota + 1 // this message will never be taken
	suspend                    // nothing will be taken until someone acts
	byChannel                  // suspend, but reject where the route chose the channel: others still work
	retry                      // it may work later
	limited                    // too much at a time
	plainly                    // the blocks are refused: once more without them
	anew                       // the message to reply to or to update is gone: begin again without it
)

// meaning is what one of Slack's words means.
type meaning struct {
	class  class
	path   string // rejected: the message's attribute
	advice string
}

// words are Slack's words for errors, of incoming webhooks, chat.postMessage, chat.update and auth.test. What is not
// among them is judged by its status.
var words = map[string]meaning{
	// The message.
	"invalid_payload":                           {class: reject, advice: "Slack cannot read the message"},
	"no_text":                                   {reject, "text", "there is nothing to say"},
	"msg_too_long":                              {reject, "text", "the text is too long"},
	"too_many_attachments":                      {class: reject},
	"invalid_attachments":                       {class: reject},
	"attachment_payload_limit_exceeded":         {class: reject},
	"too_many_contact_cards":                    {class: reject},
	"missing_file_data":                         {class: reject},
	"user_not_found":                            {class: reject, advice: "the message names a user who does not exist"},
	"invalid_arguments":                         {class: reject},
	"invalid_arg_name":                          {class: reject},
	"invalid_array_arg":                         {class: reject},
	"invalid_charset":                           {class: reject},
	"invalid_form_data":                         {class: reject},
	"invalid_post_type":                         {class: reject},
	"missing_post_type":                         {class: reject},
	"markdown_text_conflict":                    {class: reject},
	"block_mismatch":                            {reject, "blocks", "rich text can only be replaced by rich text"},
	"invalid_metadata_format":                   {class: reject, path: "metadata"},
	"invalid_metadata_schema":                   {class: reject, path: "metadata"},
	"metadata_too_large":                        {class: reject, path: "metadata"},
	"metadata_must_be_sent_from_app":            {class: reject, path: "metadata"},
	"restricted_action_thread_locked":           {reject, "thread", "administrators have locked the thread"},
	"restricted_action_non_threadable_channel":  {reject, "thread", "the channel has no threads"},
	"cant_broadcast_message":                    {class: reject, path: "broadcast"},
	"no_dual_broadcast_content_update":          {class: reject, path: "broadcast"},
	"send_on_behalf_not_allowed":                {class: reject, path: "username"},
	"as_user_not_supported":                     {class: reject, path: "username"},
	"blocked_file_type":                         {class: reject},
	"file_deleted":                              {class: reject},
	"file_is_deleted":                           {class: reject},
	"file_not_found":                            {class: reject},
	"file_share_limit_reached":                  {class: reject},
	"max_file_sharing_exceeded":                 {class: reject},
	"unable_to_share_files":                     {class: reject},
	"slack_connect_blocked_file_type":           {class: reject},
	"slack_connect_canvas_sharing_blocked":      {class: reject},
	"slack_connect_clip_sharing_blocked":        {class: reject},
	"slack_connect_file_link_sharing_blocked":   {class: reject},
	"slack_connect_file_upload_sharing_blocked": {class: reject},
	"slack_connect_lists_sharing_blocked":       {class: reject},
	"draft_already_deleted":                     {class: reject},
	"draft_already_sent":                        {class: reject},
	"draft_has_conflict":                        {class: reject},
	"draft_not_found":                           {class: reject},
	"duplicate_channel_not_found":               {class: reject},
	"duplicate_message_not_found":               {class: reject},
	"invalid_blocks":                            {plainly, "blocks", "Slack does not take these blocks"},
	"invalid_blocks_format":                     {plainly, "blocks", "the blocks are not as Block Kit has them"},
	"msg_blocks_too_long":                       {plainly, "blocks", "the blocks are too long together"},

	// What it replies to or replaces.
	"message_not_found":       {class: anew, path: "thread", advice: "the message was deleted"},
	"thread_not_found":        {class: anew, path: "thread", advice: "the thread was deleted"},
	"cannot_reply_to_message": {class: anew, path: "thread", advice: "the message cannot have replies"},
	"cant_update_message":     {class: anew, path: "update", advice: "the message is not this app's"},
	"edit_window_closed":      {class: anew, path: "update", advice: "it is too late to change the message"},

	// The webhook or the app.
	"no_service":                {class: suspend, advice: "the webhook was disabled or removed; make a new one"},
	"no_service_id":             {class: suspend, advice: "webhook_url is not whole"},
	"no_active_hooks":           {class: suspend, advice: "the webhook is disabled"},
	"no_team":                   {class: suspend, advice: "the workspace of webhook_url does not exist"},
	"team_disabled":             {class: suspend, advice: "the workspace is disabled"},
	"invalid_token":             {class: suspend, advice: "webhook_url is wrong or was revoked"},
	"invalid_auth":              {class: suspend, advice: "the token is wrong, or this address may not use it"},
	"not_authed":                {class: suspend, advice: "no token arrived"},
	"account_inactive":          {class: suspend, advice: "the app was removed, or its bot is deactivated"},
	"token_revoked":             {class: suspend, advice: "the token was revoked; install the app again"},
	"token_expired":             {class: suspend, advice: "the token has expired; turn token rotation off for the app"},
	"missing_scope":             {class: suspend, advice: "add the scope to the app and install it again"},
	"no_permission":             {class: suspend, advice: "the app may not do this"},
	"not_allowed_token_type":    {class: suspend, advice: "it takes a bot token"},
	"enterprise_is_restricted":  {class: suspend},
	"org_login_required":        {class: suspend, advice: "the workspace is being moved to an organization"},
	"access_denied":             {class: suspend},
	"accesslimited":             {class: suspend, advice: "not from this network"},
	"app_access_restricted":     {class: suspend},
	"is_bot":                    {class: suspend},
	"team_access_not_granted":   {class: suspend},
	"two_factor_setup_required": {class: suspend},
	"deprecated_endpoint":       {class: suspend},
	"method_deprecated":         {class: suspend},
	"unknown_method":            {class: suspend, advice: "check base_url"},

	// The channel.
	"channel_not_found":                     {byChannel, "channel", "there is none, or it is private without the app"},
	"not_in_channel":                        {byChannel, "channel", "invite the app to the channel"},
	"channel_is_archived":                   {byChannel, "channel", "the channel is archived"},
	"is_archived":                           {byChannel, "channel", "the channel is archived"},
	"is_inactive":                           {byChannel, "channel", "the channel is frozen, archived or deleted"},
	"action_prohibited":                     {byChannel, "channel", "an administrator does not let apps post there"},
	"posting_to_channel_denied":             {byChannel, "channel", "an administrator does not let apps post there"},
	"posting_to_general_channel_denied":     {byChannel, "channel", "an administrator does not let apps post there"},
	"restricted_action":                     {byChannel, "channel", "the workspace does not let the app post there"},
	"restricted_action_read_only_channel":   {byChannel, "channel", "the channel is read-only"},
	"restricted_action_thread_only_channel": {byChannel, "channel", "the channel takes replies in threads only"},
	"ekm_access_denied":                     {byChannel, "channel", "administrators have stopped messages to the channel"},
	"messages_tab_disabled":                 {byChannel, "channel", "the app's messages tab is disabled"},
	"team_not_found":                        {byChannel, "channel", "write the channel's ID, not its name"},

	// Slack.
	"ratelimited":                {class: limited},
	"rate_limited":               {class: limited},
	"message_limit_exceeded":     {class: retry, advice: "the workspace sends too many messages"},
	"rollup_error":               {class: retry},
	"internal_error":             {class: retry, advice: "it may have been posted"},
	"fatal_error":                {class: retry, advice: "it may have been posted"},
	"update_failed":              {class: retry},
	"service_unavailable":        {class: retry},
	"request_timeout":            {class: retry},
	"team_added_to_org":          {class: retry, advice: "the workspace is being moved to an organization"},
	"external_channel_migrating": {class: retry, advice: "the channel is being moved"},
	"streaming_state_conflict":   {class: retry},
}

// meaning judges an answer that is not ok.
func (a *answer) meaning() meaning {
	if a.err != nil {
		return meaning{class: retry}
	}
	if m, known := words[a.word]; known {
		return m
	}
	switch {
	case strings.HasPrefix(a.word, "restricted_action"):
		return words["restricted_action"]
	case strings.HasPrefix(a.word, "invalid_blocks"):
		return words["invalid_blocks"]
	case a.status == 429:
		return meaning{class: limited}
	case a.status >= 500, a.status == 408, a.status == 425:
		return meaning{class: retry}
	case a.status == 401, a.status == 403, a.status == 404, a.status == 407, a.status == 410:
		return meaning{class: suspend}
	case a.status >= 400:
		return meaning{class: reject}
	case a.status >= 300:
		return meaning{class: suspend, advice: "redirects are not followed; check the address"}
	case a.word != "":
		return meaning{class: reject} // the Web API's 200
	case a.details == "":
		return meaning{class: retry}
	}
	return meaning{class: suspend, advice: "this is not Slack's answer; check the address"}
}

// reason says in one line what happened.
func (a *answer) reason(m meaning) string {
	if a.err != nil {
		return a.err.Error()
	}
	var b strings.Builder
	b.WriteString("slack answers ")
	switch {
	case a.word != "":
		b.WriteString(a.word)
		if a.status != 200 {
			fmt.Fprintf(&b, " (%d)", a.status)
		}
	default:
		fmt.Fprintf(&b, "%d", a.status)
	}
	for _, more := range []string{m.advice, a.details} {
		if more != "" {
			b.WriteString(": " + more)
		}
	}
	return b.String()
}

// outcome is what the host is told of an answer that is not ok. chosen: the route chose the channel.
func (a *answer) outcome(chosen bool) error {
	m := a.meaning()
	err := errors.New(a.reason(m))
	switch m.class {
	case reject, plainly, anew:
		if m.path == "" {
			return sdk.Reject(err)
		}
		return sdk.Reject(err, m.path)
	case byChannel:
		if chosen {
			return sdk.Reject(err, m.path)
		}
		return sdk.Suspend(err)
	case suspend:
		return sdk.Suspend(err)
	case limited:
		return sdk.RetryAfter(err, a.pause())
	}
	if a.after > 0 {
		return sdk.RetryAfter(err, a.after)
	}
	return err
}

// pause is how long to stay away after too much.
func (a *answer) pause() time.Duration {
	if a.after > 0 {
		return a.after
	}
	return defaultPause
}
