//! Keeps secrets out of URLs before they become attributes.

use std::borrow::Cow;

/// What stands in for a value.
const REDACTED: &str = "REDACTED";

/// Parameters whose value is a credential: the ones that the conventions for
/// HTTP name, and the session ids of MCP over HTTP+SSE, which are bearers.
const SECRET: [&str; 24] = [
    "sig",
    "signature",
    "awsaccesskeyid",
    "x-amz-signature",
    "x-amz-credential",
    "x-amz-security-token",
    "x-goog-signature",
    "session_id",
    "sessionid",
    "access_token",
    "api_key",
    "apikey",
    "key",
    "token",
    // OAuth 2.1, by which MCP authorises, and customary spellings.
    "code",
    "code_verifier",
    "client_secret",
    "client_assertion",
    "refresh_token",
    "id_token",
    "password",
    "secret",
    "api-key",
    "x-api-key",
];

/// A URI with its user information and the secrets of its query replaced.
pub fn uri(uri: &str) -> Cow<'_, str> {
    let (rest, fragment) = uri.find('#').map_or((uri, ""), |at| uri.split_at(at));
    let (base, asked) = rest.split_once('?').map_or((rest, None), |(base, asked)| (base, Some(asked)));
    let user = base.find("://").map(|at| at + 3).and_then(|start| {
        let authority = base[start..].split('/').next().unwrap_or_default();
        authority.rfind('@').map(|end| start..start + end)
    });
    let asked = asked.map(query);
    if user.is_none() && !matches!(asked, Some(Cow::Owned(_))) {
        return Cow::Borrowed(uri);
    }
    let mut out = base.to_owned();
    if let Some(user) = user {
        out.replace_range(user, REDACTED);
    }
    if let Some(asked) = asked {
        out.push('?');
        out.push_str(&asked);
    }
    out.push_str(fragment);
    Cow::Owned(out)
}

/// The query with the values of secret parameters replaced. Names are
/// compared without regard to case; anything else stays as it is.
pub fn query(query: &str) -> Cow<'_, str> {
    if !query.split('&').any(|pair| is_secret(name_of(pair))) {
        return Cow::Borrowed(query);
    }
    let mut out = String::with_capacity(query.len());
    for (index, pair) in query.split('&').enumerate() {
        if index > 0 {
            out.push('&');
        }
        let name = name_of(pair);
        if is_secret(name) && name.len() < pair.len() {
            out.push_str(name);
            out.push('=');
            out.push_str(REDACTED);
        } else {
            out.push_str(pair);
        }
    }
    Cow::Owned(out)
}

fn name_of(pair: &str) -> &str {
    pair.split('=').next().unwrap_or(pair)
}

fn is_secret(name: &str) -> bool {
    SECRET.iter().any(|secret| name.eq_ignore_ascii_case(secret))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_go_and_the_rest_stays() {
        let cases = [
            ("a=1&b=2", "a=1&b=2"),
            ("session_id=abc&x=1", "session_id=REDACTED&x=1"),
            ("x=1&SIG=abc=d", "x=1&SIG=REDACTED"),
            ("sessionId=1", "sessionId=REDACTED"),
            ("sig", "sig"),
            ("", ""),
            ("X-Amz-Signature=a&&", "X-Amz-Signature=REDACTED&&"),
        ];
        for (input, expected) in cases {
            assert_eq!(query(input), expected, "{input}");
        }
    }

    #[test]
    fn uris_lose_their_user_and_their_secrets() {
        let cases = [
            ("file:///a?b#c", "file:///a?b#c"),
            ("https://u:p@h/x@y?token=t&a=1#f", "https://REDACTED@h/x@y?token=REDACTED&a=1#f"),
            ("urn:x?sig=1", "urn:x?sig=REDACTED"),
            ("://@", "://REDACTED@"),
            ("", ""),
        ];
        for (input, expected) in cases {
            assert_eq!(uri(input), expected, "{input}");
        }
    }
}
