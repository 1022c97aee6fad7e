//! All lanes see the same.

use super::*;

/// All that can be seen of four blocks and of what follows.
type Looks = ([u64; 3], [bool; 8], [u64; 4]);

fn looks(lanes: impl Lanes, followed: &Followed) -> Looks {
    let group = followed.first_chunk::<GROUP>().unwrap();
    let blocks = group.as_chunks::<BLOCK>().0;
    let block = &blocks[1];
    let seen = blocks.iter().fold(lanes.nothing(), |seen, block| lanes.see(seen, block));
    let (quote, more) = (lanes.has(group, b'"'), lanes.has_quote_or_more(group));
    (
        [lanes.equal(block, b'"'), lanes.equal_with(block, 0x20, b'{'), lanes.signs(block)],
        [
            lanes.is_ascii(seen),
            lanes.has_sign(group),
            quote,
            more,
            lanes.has_mark(group),
            lanes.has_hint(followed),
            lanes.has_spelling(followed),
            lanes.may_end(followed),
        ],
        lanes.between([0, 1, 2, 3].map(|block| lanes.equal(&blocks[block], b'"'))),
    )
}

/// The same by a look at each byte.
fn plain_looks(followed: &Followed) -> Looks {
    let group = &followed[..GROUP];
    let bits = |block: &[u8], is: &dyn Fn(u8) -> bool| {
        block.iter().enumerate().fold(0, |bits, (at, byte)| bits | u64::from(is(*byte)) << at)
    };
    let is_sign = |byte: u8| b"\\#'/".contains(&byte);
    let block = &group[BLOCK..2 * BLOCK];
    let quote = group.contains(&b'"');
    let has = |text: &[u8]| (0..GROUP).any(|at| followed[at..].starts_with(text));
    (
        [
            bits(block, &|byte| byte == b'"'),
            bits(block, &|byte| byte == b'{' || byte == b'['),
            bits(block, &is_sign),
        ],
        [
            group.is_ascii(),
            group.iter().any(|byte| is_sign(*byte)),
            quote,
            quote || !group.is_ascii(),
            group.contains(&b'E') || group.contains(&b'\\'),
            group.contains(&b'E') || has(br"\u"),
            has(b"Er")
                || has(br"E\")
                || [br"\u004", br"\u005", br"\u006", br"\u007"].into_iter().any(|escape| has(escape)),
            (0..GROUP).any(|at| {
                let after = &followed[at + 1..];
                followed[at] == b'}' && !b"]}".contains(&after[0]) && !after.starts_with(b",{")
            }),
        ],
        [0, 1, 2, 3].map(|block| {
            let mut inside = false;
            group[block * BLOCK..][..BLOCK].iter().enumerate().fold(0, |bits, (at, byte)| {
                inside ^= *byte == b'"';
                bits | u64::from(inside) << at
            })
        }),
    )
}

fn widest(followed: &Followed) -> Looks {
    with_lanes!(lanes => looks(lanes, followed))
}

#[test]
fn all_lanes_see_what_a_look_at_each_byte_sees() {
    let mut seed = 0x5eed_0009_u64;
    let mut roll = |sides: usize| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        (seed >> 16) as usize % sides
    };
    for _ in 0..20_000 {
        let mut group = [b'a'; GROUP + AFTER];
        for _ in 0..roll(6) {
            // Few marks, so that each is alone at times; any byte, so that none is mistaken.
            let mark = b"\"\\{[/'#+}]\xff\x80"[roll(12)];
            group[roll(GROUP + AFTER)] = if roll(2) == 0 { mark } else { roll(256) as u8 };
        }
        if roll(4) == 0 {
            let texts =
                [&b"Er"[..], br"E\", b"ER", br"\u0069", br"\u0073", br"\u0045", br"\u003c", b"},{", b"}]"];
            let text = texts[roll(texts.len())];
            let at = if roll(2) == 0 { roll(GROUP) } else { GROUP - 1 - roll(AFTER) };
            let end = (GROUP + AFTER).min(at + 1 + roll(text.len()));
            group[at..end].copy_from_slice(&text[..end - at]);
        }
        let expected = plain_looks(&group);
        assert_eq!(looks(Plain, &group), expected);
        assert_eq!(widest(&group), expected);
    }
}
