package crm

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/grapnelhq/grapnel/sdk"
)

// OAuth is the configuration of a login with OAuth 2.0, as the block oauth has it.
type OAuth struct {
	TokenURL     string     `json:"token_url,omitempty" doc:"Where tokens are issued, https. salesforce: base_url + /services/oauth2/token if left out."`
	ClientID     string     `json:"client_id" doc:"The application's id; Salesforce calls it consumer key."`
	ClientSecret sdk.Secret `json:"client_secret,omitempty" doc:"For the client credentials grant."`
	PrivateKey   sdk.Secret `json:"private_key,omitempty" doc:"For the JWT bearer grant: an RSA key in PEM form."`
	Subject      string     `json:"subject,omitempty" doc:"JWT bearer grant: the user to act for."`
	Audience     string     `json:"audience,omitempty" doc:"JWT bearer grant: who accepts the assertion. salesforce: https://login.salesforce.com if left out, for sandboxes https://test.salesforce.com."`
	Scopes       []string   `json:"scopes,omitempty" doc:"What to ask for, where the application does not say it."`
	// The secret's place is a matter of taste for most, but some accept one only.
	CredentialsIn string `json:"credentials_in,omitempty" default:"body" enum:"body|header" doc:"Where client_id and client_secret are sent: as a form, or as basic authentication."`
}

// Validate checks what a schema cannot say. Its errors are sdk.AttributeErrors with paths below the block.
func (o *OAuth) Validate() error {
	var errs []error
	bad := func(name, summary, detail string) {
		errs = append(errs, &sdk.AttributeError{Path: []string{"oauth", name}, Summary: summary, Detail: detail})
	}
	if o.ClientID == "" {
		bad("client_id", "must not be empty", "")
	}
	if o.TokenURL != "" {
		if err := checkTokenURL(o.TokenURL); err != nil {
			bad("token_url", err.Error(), "")
		}
	}
	switch secret, key := !o.ClientSecret.IsZero(), !o.PrivateKey.IsZero(); {
	case secret && key:
		bad("private_key", "is given beside client_secret", "Write one of them: client_secret is the client "+
			"credentials grant, private_key the JWT bearer grant.")
	case !secret && !key:
		bad("client_secret", "is missing", "Write client_secret for the client credentials grant, or private_key for the "+
			"JWT bearer grant.")
	case key:
		if _, err := parseRSAKey(o.PrivateKey); err != nil {
			bad("private_key", err.Error(), "It is the text of a file that starts with -----BEGIN PRIVATE KEY-----.")
		}
		if o.Subject == "" {
			bad("subject", "is missing", "The JWT bearer grant acts for a user.")
		}
	}
	return errors.Join(errs...)
}

func checkTokenURL(text string) error {
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || u.User != nil || u.Fragment != "" {
		return errors.New("not an address")
	}
	if u.Scheme != "https" && (u.Scheme != "http" || !IsLoopback(u)) {
		return errors.New("must be https: the secret goes there")
	}
	return nil
}

// Login makes the login of a validated configuration with a TokenURL and, for the JWT bearer grant, an Audience.
func (o *OAuth) Login() (Login, error) {
	if o.PrivateKey.IsZero() {
		return o.clientCredentials, nil
	}
	key, err := parseRSAKey(o.PrivateKey)
	if err != nil {
		return nil, &sdk.AttributeError{Path: []string{"oauth", "private_key"}, Summary: err.Error()}
	}
	return func(ctx context.Context, c *Client) (Token, error) { return o.jwtBearer(ctx, c, key) }, nil
}

// Secrets are the texts that must not show: the secrets themselves, and how they are written in requests.
func (o *OAuth) Secrets() []string {
	secret := o.ClientSecret.Reveal()
	return []string{o.PrivateKey.Reveal(), o.basic(), url.QueryEscape(secret), secret}
}

// basic is the client's id and secret as RFC 6749, section 2.3.1, has them in a header.
func (o *OAuth) basic() string {
	pair := url.QueryEscape(o.ClientID) + ":" + url.QueryEscape(o.ClientSecret.Reveal())
	return base64.StdEncoding.EncodeToString([]byte(pair))
}

// clientCredentials is RFC 6749, section 4.4.
func (o *OAuth) clientCredentials(ctx context.Context, c *Client) (Token, error) {
	form := url.Values{"grant_type": {"client_credentials"}}
	header := http.Header{}
	if o.CredentialsIn == "header" {
		header.Set("Authorization", "Basic "+o.basic())
	} else {
		form.Set("client_id", o.ClientID)
		form.Set("client_secret", o.ClientSecret.Reveal())
	}
	if len(o.Scopes) > 0 {
		form.Set("scope", strings.Join(o.Scopes, " "))
	}
	return o.fetch(ctx, c, form, header)
}

// jwtBearer is RFC 7523, section 2.1, with RS256.
func (o *OAuth) jwtBearer(ctx context.Context, c *Client, key *rsa.PrivateKey) (Token, error) {
	const lifetime = 3 * time.Minute // what Salesforce accepts; a clock that is some seconds off does no harm
	claims := map[string]any{"iss": o.ClientID, "sub": o.Subject, "aud": o.Audience, "exp": time.Now().Add(lifetime).Unix()}
	assertion, err := signJWT(claims, key)
	if err != nil {
		return Token{}, sdk.Suspend(fmt.Errorf("the login's assertion cannot be signed: %w", err))
	}
	form := url.Values{"grant_type": {"urn:ietf:params:oauth:grant-type:jwt-bearer"}, "assertion": {assertion}}
	if len(o.Scopes) > 0 {
		form.Set("scope", strings.Join(o.Scopes, " "))
	}
	return o.fetch(ctx, c, form, nil)
}

func signJWT(claims map[string]any, key *rsa.PrivateKey) (string, error) {
	payload, err := json.Marshal(claims)
	if err != nil {
		return "", err
	}
	b64 := base64.RawURLEncoding.EncodeToString
	text := b64([]byte(`{"alg":"RS256","typ":"JWT"}`)) + "." + b64(payload)
	digest := sha256.Sum256([]byte(text))
	signature, err := rsa.SignPKCS1v15(rand.Reader, key, crypto.SHA256, digest[:])
	if err != nil {
		return "", err
	}
	return text + "." + b64(signature), nil
}

// parseRSAKey reads a private key. Its errors do not show the key.
func parseRSAKey(text sdk.Secret) (*rsa.PrivateKey, error) {
	block, _ := pem.Decode([]byte(text.Reveal()))
	if block == nil {
		return nil, errors.New("not a key in PEM form")
	}
	if key, err := x509.ParsePKCS1PrivateKey(block.Bytes); err == nil {
		return key, nil
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, errors.New("not a private key that is readable without a password")
	}
	key, ok := parsed.(*rsa.PrivateKey)
	if !ok {
		return nil, errors.New("not an RSA key")
	}
	return key, nil
}

// fetch posts a form to the token address and reads the answer.
func (o *OAuth) fetch(ctx context.Context, c *Client, form url.Values, header http.Header) (Token, error) {
	resp, err := c.Do(ctx, Request{
		Method: http.MethodPost, URL: o.TokenURL, Header: header, Anonymous: true,
		Type: "application/x-www-form-urlencoded", Body: []byte(form.Encode()),
	})
	if err != nil {
		return Token{}, err
	}
	return tokenOf(c, resp)
}

// tokenOf reads a token address's answer.
func tokenOf(c *Client, resp *Response) (Token, error) {
	var answer struct {
		AccessToken string          `json:"access_token"`
		TokenType   string          `json:"token_type"`
		ExpiresIn   json.RawMessage `json:"expires_in"`
		InstanceURL string          `json:"instance_url"` // Salesforce: where its API is
		Error       string          `json:"error"`
		Description string          `json:"error_description"`
	}
	err := json.Unmarshal(resp.Body, &answer)
	switch {
	case answer.Error != "" && answer.Error != "temporarily_unavailable" && answer.Error != "server_error" &&
		resp.Status < 500 && resp.Status != http.StatusTooManyRequests:
		// RFC 6749, section 5.2: invalid_client, invalid_grant, unauthorized_client …: nothing that passes by itself.
		return Token{}, sdk.Suspend(fmt.Errorf("the login is refused: %s: %s", c.Clean(answer.Error), c.Clean(answer.Description)))
	case !resp.OK():
		outcome := resp.Outcome(c.Words(resp))
		if resp.Status >= 400 && resp.Status < 500 && resp.Status != http.StatusTooManyRequests &&
			resp.Status != http.StatusRequestTimeout && resp.Status != http.StatusTooEarly {
			outcome = sdk.Suspend(outcome)
		}
		return Token{}, fmt.Errorf("login: %w", outcome)
	case err != nil || answer.AccessToken == "" || strings.ContainsAny(answer.AccessToken, "\r\n"):
		return Token{}, errors.New("login: the answer holds no access token")
	}
	t := Token{Name: "Authorization", Value: "Bearer " + answer.AccessToken}
	// A number, for some a text. Salesforce leaves it out.
	if s, err := strconv.ParseInt(strings.Trim(string(answer.ExpiresIn), `"`), 10, 31); err == nil && s > 0 {
		t.Expires = time.Now().Add(time.Duration(s) * time.Second)
	}
	if answer.InstanceURL != "" {
		u, err := ParseBaseURL(answer.InstanceURL)
		if err != nil || u.Scheme != "https" && !IsLoopback(u) {
			return Token{}, errors.New("login: the answer's instance_url is not an https address")
		}
		t.Base = u
	}
	return t, nil
}
