//! A response that is compressed: it passes as it is, and what it says is read beside it.

use bytes::Bytes;
use http::response;

use super::{Exchange, Observer};
use crate::proxy::budget::Reserved;
use crate::proxy::headers::Media;
use crate::proxy::inflate::{self, Coding, Inflate, Unreadable};
use crate::proxy::read;

/// A copy of the body that is being unpacked.
#[derive(Debug)]
pub(super) struct Unpacking {
    inflate: Inflate,
    /// Its share of what may be held.
    _reserved: Reserved,
}

impl Exchange {
    /// Decides whether the body of this response, which is compressed, can be read. A stream may stay
    /// open for hours, so these leave room for requests.
    pub(super) fn unpacks(&mut self, head: &response::Parts, media: Media) -> bool {
        let Some(coding) = Coding::of(read::codings(&head.headers)) else {
            self.note("encoded");
            return false;
        };
        if media == Media::Other {
            return false;
        }
        let Some(reserved) = self.worker.held.reserve_spare(inflate::MEMORY) else {
            self.note("no_room");
            return false;
        };
        self.unpacking = Some(Box::new(Unpacking { inflate: Inflate::new(coding), _reserved: reserved }));
        true
    }

    /// Looks at what these bytes of the compressed body say.
    pub(super) fn look_into(&mut self, mut unpacking: Box<Unpacking>, data: &[u8]) {
        let how = unpacking.inflate.read(data, |plain| _ = self.look_at(Bytes::from(plain)));
        if let Err(why) = how {
            self.leave_unread(why);
        } else if !matches!(self.observer, Observer::Nothing) {
            self.unpacking = Some(unpacking);
        }
    }

    /// The response came to its end. What of it are events was read as they came.
    pub(super) fn unpacked(&mut self) {
        let Some(unpacking) = self.unpacking.take() else { return };
        if matches!(self.observer, Observer::Json { .. })
            && let Err(why) = unpacking.inflate.finish()
        {
            self.leave_unread(why);
        }
    }

    fn leave_unread(&mut self, why: Unreadable) {
        self.observer = Observer::Nothing;
        self.note(match why {
            Unreadable::Broken => "encoded",
            Unreadable::TooLarge => "too_large",
        });
    }
}
