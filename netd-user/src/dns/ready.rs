//! Answers about containers as they went out, for the next query that says the same.
//!
//! Laws: an answer holds as long as the names that it was made from, and only where no turn could have
//! made another; a sandbox keeps few and small ones.

use std::collections::HashMap;

use hickory_proto::op::ResponseCode;

use super::reply::Reply;

/// Answers that a sandbox keeps; beyond them it begins anew.
const CAPACITY: usize = 32;
/// Longest query or answer that is kept, bytes.
const LONGEST: usize = 512;
/// The first bytes of a message: its id, which is the query's own.
const ID_LEN: usize = 2;

/// The answers of one sandbox.
#[derive(Debug, Default)]
pub(super) struct Ready {
    generation: u64,
    /// Both without their ids.
    answers: HashMap<Box<[u8]>, Box<[u8]>>,
}

impl Ready {
    /// Forgets what was made from other names than those of a generation.
    pub(super) fn follow(&mut self, generation: u64) {
        if self.generation != generation {
            *self = Self { generation, ..Self::default() };
        }
    }

    /// Makes a query its answer, if that is known; how long it is. A buffer holds every answer.
    pub(super) fn answer(&self, buffer: &mut [u8], len: usize) -> Option<usize> {
        let answer = self.answers.get(buffer.get(ID_LEN..len)?)?;
        let len = ID_LEN + answer.len();
        buffer.get_mut(ID_LEN..len)?.copy_from_slice(answer);
        Some(len)
    }

    /// Keeps an answer that was made from the names of this generation.
    pub(super) fn keep(&mut self, query: &[u8], reply: &Reply, answer: &[u8]) {
        let (Some(query), Some(answer)) = (query.get(ID_LEN..), answer.get(ID_LEN..)) else {
            return;
        };
        if !is_the_only_one(reply) || query.len().max(answer.len()) > LONGEST {
            return;
        }
        if self.answers.len() >= CAPACITY {
            self.answers.clear();
        }
        self.answers.insert(query.into(), answer.into());
    }
}

/// Several records come in turns. What is no question about a name is too seldom, or a flood.
fn is_the_only_one(reply: &Reply) -> bool {
    let message = &reply.message;
    message.metadata.response_code == ResponseCode::NoError && message.answers.len() <= 1
}
