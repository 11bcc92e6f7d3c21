//! Batches in a rehearsal. The script decides about each input of a batch: a batch takes as long as its
//! slowest input, and one input that dies takes its whole batch with it.

use std::time::Duration;

use crate::code::rehearsable::BatchRole;
use crate::engine::batch_body::{Outcomes, Part, begun, returned, unless_unwanted};
use crate::engine::body::LeasedRun;
use crate::testkit::container::{Play, Scripted, dies_of_memory, in_span, pass};
use crate::testkit::record::ExecutionEnd;
use crate::testkit::script::{At, Fault};

impl<I, O, E> Play<'_, I, O, E>
where
    I: Send + Sync + 'static,
    O: Send + 'static,
    E: Send + 'static,
{
    /// Executes the inputs of a batch, and the further batches of its only lease.
    pub(super) async fn drive_batch(
        &self,
        batch: &[LeasedRun<'_>],
        role: &mut (dyn BatchRole<I, O, E> + '_),
        scripted: &Scripted,
    ) {
        let mut parts = begun(batch);
        let span = parts.first().and_then(|(first, _)| first.span());
        while let Some((first, active)) = parts.first() {
            let first = *first;
            self.context.begin_input(active.index());
            let inputs: Vec<At<'_, I>> = parts.iter().flat_map(|part| self.inputs(part)).collect();
            let number = self.rehearsed.log.next_batch();
            let executions: Vec<_> = inputs
                .iter()
                .map(|at| self.rehearsed.log.begins_in_batch(at, Some(number), || self.now()))
                .collect();
            let deadly = inputs.iter().any(|at| self.rehearsed.is_deadly(at.index));
            let executes = self.execute_batch(&inputs, role, first, scripted);
            let outcomes = if self.rehearsed.body().waits() {
                unless_unwanted(batch, executes, span.as_ref()).await
            } else {
                Some(in_span(executes, span.as_ref()).await)
            };
            let Some(outcomes) = outcomes else { return };
            let fenced = parts
                .iter()
                .flat_map(|(part, active)| std::iter::repeat_n(part.run.is_fenced(), active.inputs().len()));
            for ((execution, fenced), outcome) in executions.into_iter().zip(fenced).zip(&outcomes) {
                execution.ends(match outcome {
                    _ if fenced => ExecutionEnd::Late,
                    Ok(_) => ExecutionEnd::Completed,
                    Err(_) => ExecutionEnd::Failed,
                });
            }
            let len = inputs.len();
            parts = returned(parts, len, outcomes, None, span.as_ref(), &self.rehearsed.code.errors);
            if deadly {
                return self.dies_between_batches();
            }
            // Notifies the consumers of the outcomes now, because a rehearsal does not poll for them.
            batch.iter().for_each(|part| _ = self.dispatch.progress(part.lease.job));
        }
    }

    /// The inputs of a part of a batch, as the script sees them.
    fn inputs<'r>(&self, (part, active): &Part<'r, '_, I, O, E>) -> Vec<At<'r, I>> {
        let now = self.now();
        let at = |(input, index)| At {
            map: part.lease.job.0,
            index,
            input,
            attempt: part.lease.attempt.get(),
            container: part.env.container,
            generation: part.env.generation,
            now,
        };
        active.inputs().zip(active.index()..).map(at).collect()
    }

    async fn execute_batch(
        &self,
        inputs: &[At<'_, I>],
        role: &mut (dyn BatchRole<I, O, E> + '_),
        first: &LeasedRun<'_>,
        scripted: &Scripted,
    ) -> Outcomes<O, E> {
        let decided: Vec<_> = inputs.iter().map(|at| self.rehearsed.executes(at)).collect();
        pass(decided.iter().map(|(takes, _)| *takes).max().unwrap_or(Duration::ZERO)).await;
        let mut scripted_errors = Vec::with_capacity(inputs.len());
        for (_, fault) in decided {
            scripted_errors.push(match fault {
                None => None,
                Some(Fault::Fail(error)) => Some(error),
                Some(Fault::Hang) => std::future::pending().await,
                Some(Fault::Panic) => panic!("a scripted panic"),
                Some(Fault::ExceedMemory) => dies_of_memory(first, scripted),
            });
        }
        // The code gets the inputs about which the script says nothing.
        let left: Vec<&I> = inputs
            .iter()
            .zip(&scripted_errors)
            .filter_map(|(at, error)| error.is_none().then_some(at.input))
            .collect();
        let outcomes = if left.is_empty() { Vec::new() } else { role.call(&left, self.context).await };
        if outcomes.len() != left.len() {
            // The engine finds that the vector has a wrong length, which a scripted error must not hide.
            return if left.len() == inputs.len() { outcomes } else { Vec::new() };
        }
        let mut outcomes = outcomes.into_iter();
        let outcome = |error: Option<E>| match error {
            Some(error) => Err(error),
            None => outcomes.next().expect("there is one for each input"),
        };
        scripted_errors.into_iter().map(outcome).collect()
    }
}
