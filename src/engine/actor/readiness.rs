//! The messages that wait for a moment in the life of a function: its containers are live, or it is
//! idle.

use actix::Message;

use crate::values::error::NotReady;

/// Anyone → supervisor: wait until a container is live and the function is not [paused](super::Pause), as
/// [`Function::ready`](crate::Function::ready) does. The reply comes then, or it is a [`NotReady`] because
/// the function has given up, is shut down, or its engine is broken.
///
/// The supervisor goes on meanwhile, and takes other messages. The wait does not keep the function alive: if
/// the function ends, the reply is [`NotReady::ShutDown`]. With `do_send` nothing is waited for.
///
/// # Cancel safety
///
/// A sender that stops awaiting the reply ends the wait, which has no other effect.
///
/// ```
/// use longshore::App;
/// use longshore::actor::{CallInput, Idle, Ready};
///
/// # actix::System::new().block_on(async {
/// let app = App::ephemeral("docs");
/// let double = app.infallible("double", |n: &u64| 2 * n).start()?;
/// let supervisor = double.supervisor();
/// supervisor.send(Ready).await.unwrap().unwrap();
/// assert!(double.status().containers.live > 0);
/// for n in 0..100 {
///     supervisor.do_send(CallInput::new(n));
/// }
/// supervisor.send(Idle).await.unwrap().unwrap();
/// assert_eq!(double.snapshot().totals.ok, 100);
/// # Ok::<(), longshore::StartError>(())
/// # }).unwrap();
/// ```
#[derive(Debug, Message)]
#[rtype(result = "Result<(), NotReady>")]
pub struct Ready;

/// Anyone → supervisor: wait until all containers are live at once and the function is not
/// [paused](super::Pause), as [`Function::ready_all`](crate::Function::ready_all) does. Otherwise it is the
/// same as [`Ready`].
///
/// # Cancel safety
///
/// A sender that stops awaiting the reply ends the wait, which has no other effect.
///
/// ```
/// use longshore::App;
/// use longshore::actor::ReadyAll;
///
/// # actix::System::new().block_on(async {
/// let app = App::ephemeral("docs");
/// let double = app.infallible("double", |n: &u64| 2 * n).containers(4).start()?;
/// double.supervisor().send(ReadyAll).await.unwrap().unwrap();
/// assert_eq!(double.status().containers.live, 4);
/// # Ok::<(), longshore::StartError>(())
/// # }).unwrap();
/// ```
#[derive(Debug, Message)]
#[rtype(result = "Result<(), NotReady>")]
pub struct ReadyAll;

/// Anyone → supervisor: wait until every accepted input has its outcome, as
/// [`Function::idle`](crate::Function::idle) does. The reply comes then. It is an error only if the engine is
/// broken ([`NotReady::Engine`]).
///
/// The calls whose messages the supervisor has read before are waited for, and so are the inputs that its
/// maps have accepted. A map whose outcomes are not taken delays this until its window is full at most. A
/// map over a source that may block has accepted nothing at first. A function that is idle for one moment
/// after the supervisor has read this message counts as idle, even if new work comes at once.
///
/// The supervisor goes on meanwhile, and takes other messages. The wait does not keep the function alive. A
/// function that gives up or ends becomes idle, and the reply is `Ok`. With `do_send` nothing is waited for.
/// An attempt of the function that awaits this reply waits for itself, until its timeout or for ever.
///
/// # Cancel safety
///
/// A sender that stops awaiting the reply ends the wait, which has no other effect.
///
/// ```
/// use longshore::App;
/// use longshore::actor::{CallInput, Idle};
///
/// # actix::System::new().block_on(async {
/// let app = App::ephemeral("docs");
/// let double = app.infallible("double", |n: &u64| 2 * n).start()?;
/// (0..10).for_each(|n| double.supervisor().do_send(CallInput::new(n)));
/// double.supervisor().send(Idle).await.unwrap().unwrap();
/// assert_eq!(double.snapshot().totals.ok, 10);
/// # Ok::<(), longshore::StartError>(())
/// # }).unwrap();
/// ```
#[derive(Debug, Message)]
#[rtype(result = "Result<(), NotReady>")]
pub struct Idle;
