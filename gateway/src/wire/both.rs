//! What there is once per address family: a type of each ([`PerFamily`]), one of each ([`Both`]), one of
//! either ([`Any`]). Code that is written over `A: Address` asks with [`Both::of`].

use super::address::Address;
use std::{
    fmt,
    marker::PhantomData,
    net::{Ipv4Addr, Ipv6Addr},
};

/// A type that each family has one of.
pub trait PerFamily {
    type Of<A: Address>;
}

/// One of each family.
pub struct Both<P: PerFamily> {
    pub v4: P::Of<Ipv4Addr>,
    pub v6: P::Of<Ipv6Addr>,
}

/// One of either family.
pub enum Any<P: PerFamily> {
    V4(P::Of<Ipv4Addr>),
    V6(P::Of<Ipv6Addr>),
}

impl<P: PerFamily<Of<Ipv4Addr>: fmt::Debug, Of<Ipv6Addr>: fmt::Debug>> fmt::Debug for Any<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Any::V4(one) => one.fmt(f),
            Any::V6(one) => one.fmt(f),
        }
    }
}

impl<P: PerFamily<Of<Ipv4Addr>: Copy, Of<Ipv6Addr>: Copy>> Clone for Any<P> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<P: PerFamily<Of<Ipv4Addr>: Copy, Of<Ipv6Addr>: Copy>> Copy for Any<P> {}

/// The same type for both families.
#[derive(Debug)]
pub struct Same<T>(PhantomData<T>);

impl<T> PerFamily for Same<T> {
    type Of<A: Address> = T;
}

/// A value of one type for each family.
pub type Each<T> = Both<Same<T>>;

impl<P: PerFamily> Both<P> {
    #[inline(always)]
    pub fn of<A: Address>(&self) -> &P::Of<A> {
        A::get(self)
    }

    #[inline(always)]
    pub fn of_mut<A: Address>(&mut self) -> &mut P::Of<A> {
        A::get_mut(self)
    }
}

impl<P: PerFamily<Of<Ipv4Addr>: fmt::Debug, Of<Ipv6Addr>: fmt::Debug>> fmt::Debug for Both<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Both").field("v4", &self.v4).field("v6", &self.v6).finish()
    }
}

impl<P: PerFamily<Of<Ipv4Addr>: Clone, Of<Ipv6Addr>: Clone>> Clone for Both<P> {
    fn clone(&self) -> Self {
        Both { v4: self.v4.clone(), v6: self.v6.clone() }
    }
}

impl<P: PerFamily<Of<Ipv4Addr>: Default, Of<Ipv6Addr>: Default>> Default for Both<P> {
    fn default() -> Self {
        Both { v4: Default::default(), v6: Default::default() }
    }
}

impl<P: PerFamily<Of<Ipv4Addr>: PartialEq, Of<Ipv6Addr>: PartialEq>> PartialEq for Both<P> {
    fn eq(&self, other: &Self) -> bool {
        self.v4 == other.v4 && self.v6 == other.v6
    }
}

impl<P: PerFamily<Of<Ipv4Addr>: Eq, Of<Ipv6Addr>: Eq>> Eq for Both<P> {}
