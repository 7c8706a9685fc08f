//! Who a socket's file is to belong to.

use std::fmt;

use endpoints_plugin_api::{Error, Host};
use nix::unistd::{Group, User};
use rustix::fs::{Gid, Uid};

/// The user and the group as given.
#[derive(Clone, Debug, Default)]
pub(crate) struct Owner {
    user: Option<Account>,
    group: Option<Account>,
}

/// A user or a group.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Account {
    Number(u32),
    /// To be looked up when the file is made.
    Name(String),
}

/// The numbers of a user and a group; where there is none, the file keeps the one it was made with.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Ids {
    pub(crate) user: Option<Uid>,
    pub(crate) group: Option<Gid>,
}

impl Owner {
    /// Takes the values of the arguments `user` and `group`.
    ///
    /// # Errors
    /// If one is empty, or a number that is nobody's.
    pub(crate) fn new(user: Option<&str>, group: Option<&str>) -> Result<Self, Error> {
        Ok(Self { user: account("user", user)?, group: account("group", group)? })
    }

    /// The numbers, names being looked up in the system's databases, as the network may have a part in these: on a thread
    /// for such work.
    ///
    /// # Errors
    /// If there is no such user or group, or it cannot be looked up.
    pub(crate) async fn ids(&self, host: &Host) -> Result<Ids, Error> {
        if let Some(ids) = self.without_lookup() {
            return Ok(ids);
        }
        let owner = self.clone();
        host.blocking(move || owner.look_up()).await?
    }

    fn without_lookup(&self) -> Option<Ids> {
        let number = |account: &Option<Account>| match account {
            None => Some(None),
            Some(Account::Number(number)) => Some(Some(*number)),
            Some(Account::Name(_)) => None,
        };
        Some(Ids {
            user: number(&self.user)?.map(Uid::from_raw),
            group: number(&self.group)?.map(Gid::from_raw),
        })
    }

    fn look_up(&self) -> Result<Ids, Error> {
        let user = number("user", self.user.as_ref(), |name| {
            Ok(User::from_name(name)?.map(|user| user.uid.as_raw()))
        })?;
        let group = number("group", self.group.as_ref(), |name| {
            Ok(Group::from_name(name)?.map(|group| group.gid.as_raw()))
        })?;
        Ok(Ids { user: user.map(Uid::from_raw), group: group.map(Gid::from_raw) })
    }
}

impl Ids {
    /// Whether the file stays with whoever makes it.
    pub(crate) fn is_unchanged(self) -> bool {
        self.user.is_none() && self.group.is_none()
    }
}

impl fmt::Display for Ids {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.user, self.group) {
            (Some(user), Some(group)) => {
                write!(f, "user {} and group {}", user.as_raw(), group.as_raw())
            }
            (Some(user), None) => write!(f, "user {}", user.as_raw()),
            (None, Some(group)) => write!(f, "group {}", group.as_raw()),
            (None, None) => f.write_str("nobody else"),
        }
    }
}

fn account(argument: &str, given: Option<&str>) -> Result<Option<Account>, Error> {
    let Some(given) = given else { return Ok(None) };
    if given.is_empty() || !given.bytes().all(|byte| byte.is_ascii_digit()) {
        if given.is_empty() || given.contains('\0') {
            let message = format!("{argument}={given:?} names no {argument}: give a name or a number");
            return Err(Error::invalid_argument(argument, message));
        }
        return Ok(Some(Account::Name(given.to_owned())));
    }
    // To chown(2), the largest number means no change.
    match given.parse() {
        Ok(number) if number < u32::MAX => Ok(Some(Account::Number(number))),
        _ => {
            let message =
                format!("{argument}={given} is out of range: a name or 0 to {} is accepted", u32::MAX - 1);
            Err(Error::invalid_argument(argument, message))
        }
    }
}

fn number(
    argument: &str,
    account: Option<&Account>,
    look_up: impl FnOnce(&str) -> nix::Result<Option<u32>>,
) -> Result<Option<u32>, Error> {
    let name = match account {
        None => return Ok(None),
        Some(Account::Number(number)) => return Ok(Some(*number)),
        Some(Account::Name(name)) => name,
    };
    match look_up(name) {
        Ok(Some(number)) => Ok(Some(number)),
        Ok(None) => {
            let message = format!(
                "{argument}={}: this system has no {argument} of that name; give one that it has (getent lists \
                 them) or a number",
                name.escape_debug()
            );
            Err(Error::invalid_argument(argument, message))
        }
        Err(error) => Err(Error::from_io(
            format_args!("cannot look up {argument}={}", name.escape_debug()),
            &error.into(),
        )
        .with_argument(argument)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use endpoints_plugin_api::ErrorKind;

    fn raw(owner: &Owner) -> (Option<u32>, Option<u32>) {
        let ids = owner.look_up().unwrap();
        (ids.user.map(Uid::as_raw), ids.group.map(Gid::as_raw))
    }

    #[test]
    fn names_and_numbers_come_to_the_same() {
        assert_eq!(raw(&Owner::new(Some("root"), Some("root")).unwrap()), (Some(0), Some(0)));
        assert_eq!(raw(&Owner::new(Some("0"), Some("4711")).unwrap()), (Some(0), Some(4711)));
        assert_eq!(raw(&Owner::new(None, Some("root")).unwrap()), (None, Some(0)));
        assert!(Owner::default().without_lookup().unwrap().is_unchanged());
        assert!(Owner::new(Some("root"), None).unwrap().without_lookup().is_none());
        assert!(!Owner::new(None, Some("7")).unwrap().without_lookup().unwrap().is_unchanged());
    }

    #[test]
    fn who_is_nobody_is_refused_by_name() {
        let unknown = Owner::new(Some("root"), Some("no-such-group")).unwrap();
        let error = unknown.look_up().unwrap_err();
        assert_eq!((error.kind(), error.argument()), (ErrorKind::InvalidArgument, Some("group")));
        assert!(error.message().contains("no-such-group"), "{error}");
        // 4294967295 would change nothing.
        for user in ["", "4294967295", "99999999999", "a\0b"] {
            let error = Owner::new(Some(user), None).unwrap_err();
            assert_eq!((error.kind(), error.argument()), (ErrorKind::InvalidArgument, Some("user")));
        }
    }
}
