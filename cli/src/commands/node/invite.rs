//! Inviting machines into a network of `evernear up`, and what became of that.

use format::{Moment, NodeName, wire::Role};
use serde::Serialize;
use up::Listed;

use super::super::Options;
use crate::{moment, output::table};

/// An invitation, shown once.
#[derive(Serialize)]
struct Invited<'a> {
    invitation: &'a str,
    name: &'a str,
    role: &'static str,
    /// Seconds since 1970.
    expires: u64,
    /// The fingerprint of the authority's certificate.
    authority: String,
}

/// An invitation in a list.
#[derive(Serialize)]
struct Row {
    name: String,
    role: &'static str,
    expires: u64,
    /// `open`, `joined` or `ended`.
    state: &'static str,
    /// The fingerprint of the certificate of who joined.
    certificate: Option<String>,
}

/// Makes an invitation and shows it.
pub(super) fn invite(name: Option<&NodeName>, role: Role, expires: u64, options: &Options) -> anyhow::Result<()> {
    let made = up::invite(options.state()?.path(), name, role, expires, moment::now())?;
    let word = made.invitation.expose();
    let said = Invited {
        invitation: &word,
        name: made.name.as_str(),
        role: role.as_str(),
        expires: made.expires,
        authority: made.invitation.authority.to_string(),
    };
    options.answer(&said, || text(&said))
}

fn text(said: &Invited<'_>) -> String {
    let Invited { invitation, name, role, expires, authority } = said;
    let disk = if *role == "origin" { " DISK" } else { "" };
    format!(
        "On the other machine, once, until {}, while `evernear up` runs here:\n\n  evernear join {invitation}{disk}\n\n\
         It becomes the {role} {name}, and shows this as the fingerprint of the network's authority:\n\n  {authority}\n\n\
         Whoever has this line can join in its place. `evernear node invitations` shows who did.\n",
        Moment(*expires)
    )
}

/// Lists invitations.
pub(super) fn list(options: &Options) -> anyhow::Result<()> {
    let now = moment::now();
    let listed = up::invitations(options.state()?.path())?;
    let rows: Vec<Row> = listed.iter().map(|listed| row(listed, now)).collect();
    options.answer(&rows, || shown(&rows))
}

/// Takes one back.
pub(super) fn revoke(name: &NodeName, options: &Options) -> anyhow::Result<()> {
    up::revoke_invitation(options.state()?.path(), name)?;
    list(options)
}

fn row(Listed { invited, certificate }: &Listed, now: u64) -> Row {
    let state = match invited.is_used() {
        true => "joined",
        false if invited.expires <= now => "ended",
        false => "open",
    };
    let certificate = certificate.map(|certificate| certificate.to_string());
    Row { name: invited.name.to_string(), role: invited.role.as_str(), expires: invited.expires, state, certificate }
}

fn shown(rows: &[Row]) -> String {
    let heading = ["node", "role", "invitation", "until", "certificate"];
    let mut lines = vec![heading.map(str::to_owned).to_vec()];
    lines.extend(rows.iter().map(|row| {
        let certificate = row.certificate.clone().unwrap_or_else(|| "-".to_owned());
        vec![row.name.clone(), row.role.to_owned(), row.state.to_owned(), moment::show(row.expires), certificate]
    }));
    table(&lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_says_what_to_type_where_and_until_when() {
        let said =
            |role| text(&Invited { invitation: "evj_x", name: "n", role, expires: 86_400, authority: "AB:CD".into() });
        assert!(said("edge").contains("\n  evernear join evj_x\n") && said("edge").contains("1970-01-02T00:00:00Z"));
        assert!(said("origin").contains("\n  evernear join evj_x DISK\n") && said("origin").contains("\n  AB:CD\n"));
    }

    #[test]
    fn a_list_tells_those_that_wait_from_those_that_were_used_and_those_that_ended() {
        let row = |state, certificate: Option<&str>| Row {
            name: "edge1".into(),
            role: "edge",
            expires: 86_400,
            state,
            certificate: certificate.map(str::to_owned),
        };
        let shown = shown(&[row("joined", Some("AB:CD")), row("open", None)]);
        assert!(shown.contains("edge1  edge  joined      1970-01-02T00:00:00Z  AB:CD\n"), "{shown}");
        assert!(shown.contains("edge1  edge  open        1970-01-02T00:00:00Z  -\n"), "{shown}");
    }
}
