//! What many channels say as one: barriers aligned, watermarks merged by minimum, ends counted. Pure.
//!
//! Barriers flow on every channel, after its end of input too, so alignment never needs to know who has ended.
//!
//! Invariant: watermarks that come out never fall, and nothing of a channel comes out between its barrier and the others'.

use crate::{
    message::{Barrier, Message},
    time::Watermark,
};

/// What follows from a message.
#[derive(Debug)]
pub enum Aligned {
    /// Hand this on, as from this input.
    Forward(usize, Message),
    /// Read no more of the channel until the barrier is complete.
    Block,
    /// The barrier is complete: hand it on, and read all channels again.
    Complete(Barrier),
    /// Nothing to hand on.
    Nothing,
}

#[derive(Debug, Clone, Copy)]
struct Channel {
    input: usize,
    watermark: Watermark,
    ended: bool,
    at_barrier: bool,
}

/// Merges the channels of one task.
#[derive(Debug)]
pub struct Aligner {
    channels: Vec<Channel>,
    watermark: Watermark,
}

impl Aligner {
    /// An aligner; `inputs` has for each channel the operator input it belongs to.
    pub fn new(inputs: &[usize]) -> Self {
        let channel =
            |input: &usize| Channel { input: *input, watermark: Watermark::MIN, ended: false, at_barrier: false };
        Self { channels: inputs.iter().map(channel).collect(), watermark: Watermark::MIN }
    }

    /// Takes a message of a channel.
    pub fn next(&mut self, channel: usize, message: Message) -> Aligned {
        match message {
            Message::Changes(changes) => Aligned::Forward(self.channels[channel].input, Message::Changes(changes)),
            Message::Watermark(watermark) => {
                let own = &mut self.channels[channel].watermark;
                *own = (*own).max(watermark);
                self.merged()
            }
            Message::Barrier(barrier) => {
                self.channels[channel].at_barrier = true;
                if self.channels.iter().any(|channel| !channel.at_barrier) {
                    return Aligned::Block;
                }
                self.channels.iter_mut().for_each(|channel| channel.at_barrier = false);
                Aligned::Complete(barrier)
            }
            Message::EndOfInput => {
                self.channels[channel].ended = true;
                if self.channels.iter().all(|channel| channel.ended) {
                    return Aligned::Forward(self.channels[channel].input, Message::EndOfInput);
                }
                Aligned::Nothing
            }
        }
    }

    fn merged(&mut self) -> Aligned {
        let minimum = self.channels.iter().map(|channel| channel.watermark).min().unwrap_or(Watermark::MIN);
        if minimum <= self.watermark {
            return Aligned::Nothing;
        }
        self.watermark = minimum;
        Aligned::Forward(0, Message::Watermark(minimum))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{connector::Cut, message::Epoch};

    fn barrier(epoch: u64) -> Message {
        Message::Barrier(Barrier { epoch: Epoch(epoch), cut: Cut::Periodic })
    }

    #[test]
    fn a_barrier_completes_when_the_last_channel_has_it() {
        let mut aligner = Aligner::new(&[0, 0, 1]);
        assert!(matches!(aligner.next(0, barrier(1)), Aligned::Block));
        assert!(matches!(aligner.next(2, barrier(1)), Aligned::Block));
        assert!(matches!(aligner.next(1, barrier(1)), Aligned::Complete(Barrier { epoch: Epoch(1), .. })));
        assert!(matches!(aligner.next(1, barrier(2)), Aligned::Block));
    }

    #[test]
    fn the_watermark_is_the_minimum_and_never_falls() {
        let mut aligner = Aligner::new(&[0, 1]);
        assert!(matches!(aligner.next(0, Message::Watermark(Watermark(10))), Aligned::Nothing));
        assert!(matches!(
            aligner.next(1, Message::Watermark(Watermark(5))),
            Aligned::Forward(0, Message::Watermark(Watermark(5)))
        ));
        assert!(matches!(aligner.next(1, Message::Watermark(Watermark(3))), Aligned::Nothing));
        assert!(matches!(
            aligner.next(1, Message::Watermark(Watermark::MAX)),
            Aligned::Forward(0, Message::Watermark(Watermark(10)))
        ));
    }

    #[test]
    fn the_input_ends_when_all_channels_have_and_barriers_go_on() {
        let mut aligner = Aligner::new(&[0, 0]);
        assert!(matches!(aligner.next(0, Message::EndOfInput), Aligned::Nothing));
        assert!(matches!(aligner.next(0, barrier(1)), Aligned::Block));
        assert!(matches!(aligner.next(1, Message::EndOfInput), Aligned::Forward(_, Message::EndOfInput)));
        assert!(matches!(aligner.next(1, barrier(1)), Aligned::Complete(_)));
    }
}
