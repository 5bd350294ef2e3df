//! Pools and what they give out.

use super::*;

#[test]
fn a_pool_gives_out_what_it_has_and_gets_it_back() {
    let eal = start(vec![]);
    let pool = pool(&eal);
    assert_eq!(pool.available(), BUFFERS);
    let mut held: Vec<Mbuf> = std::iter::from_fn(|| pool.alloc()).collect();
    assert_eq!((held.len() as u32, pool.available()), (BUFFERS, 0));
    held.truncate(100);
    assert_eq!(pool.available(), BUFFERS - 100);
    drop(held);
    assert_eq!(pool.available(), BUFFERS);
}

#[test]
fn an_impossible_pool_is_an_error() {
    let eal = start(vec![]);
    let error = Mempool::new(&eal, u32::MAX, 2048, -1).unwrap_err();
    assert_eq!(error.call, "rte_pktmbuf_pool_create");
    assert!(error.to_string().contains("4294967295"), "{error}");
}

/// The methods of the buffer, each against what the in-memory double does.
#[test]
fn an_mbuf_behaves_as_the_double_does() {
    use gateway::datapath::memory_io::MemoryIo;
    let eal = start(vec![]);
    let pool = pool(&eal);
    let mut io = MemoryIo::default();
    let mut mbuf = packet(&pool, b"0123456789");
    let mut double = io.alloc().unwrap();
    assert!(double.fill(b"0123456789"));
    type Step = fn(&mut dyn Steps) -> bool;
    let steps: &[(&str, Step)] = &[
        ("trim 3", |p| p.step_trim(3)),
        ("prepend 2", |p| p.step_prepend(2)),
        ("truncate 5", |p| p.step_truncate(5)),
        ("truncate beyond", |p| p.step_truncate(500)),
        ("prepend all of the headroom", |p| p.step_prepend(129)),
        ("one byte too many", |p| p.step_prepend(1)),
        ("trim beyond", |p| p.step_trim(5000)),
        ("fill", |p| p.step_fill(&[7; 1500])),
        ("fill beyond", |p| p.step_fill(&[7; 5000])),
    ];
    for (description, step) in steps {
        assert_eq!(step(&mut mbuf), step(&mut double), "{description}");
        assert_eq!(mbuf.data().len(), double.data().len(), "{description}");
        assert!(mbuf.is_contiguous());
        let end = mbuf.data().len().min(3);
        let tail = |data: &[u8]| data[data.len() - end..].to_vec();
        assert_eq!(tail(mbuf.data()), tail(double.data()), "{description}");
    }
    drop(mbuf);
    assert_eq!(pool.available(), BUFFERS);
}

/// [`PacketBuf`] without its self type, so that one table drives both.
trait Steps {
    fn step_trim(&mut self, len: usize) -> bool;
    fn step_prepend(&mut self, len: usize) -> bool;
    fn step_truncate(&mut self, len: usize) -> bool;
    fn step_fill(&mut self, bytes: &[u8]) -> bool;
}

impl<B: PacketBuf> Steps for B {
    fn step_trim(&mut self, len: usize) -> bool {
        self.keep(len..usize::MAX);
        true
    }
    fn step_prepend(&mut self, len: usize) -> bool {
        let done = self.prepend(len);
        // New bytes in front are of any content.
        let zeroes = if done { len } else { 0 };
        self.data_mut()[..zeroes].fill(0);
        done
    }
    fn step_truncate(&mut self, len: usize) -> bool {
        self.keep(0..len);
        true
    }
    fn step_fill(&mut self, bytes: &[u8]) -> bool {
        self.fill(bytes)
    }
}
