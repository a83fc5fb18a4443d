//! Lets a server pack, and shows how far it is as far as the server tells. Works with ZEO's own server too,
//! which tells nothing, and has no estimate and nothing to cancel.

use super::{Options, Trouble, show, show::Show};
use crate::{
    caller::{CallError, Caller},
    socket::Socket,
};
use std::time::Duration;
use zeolith_types::{PackStatus, Value};

pub(super) fn run(address: &str, time: f64, options: &Options) -> Result<(), Trouble> {
    let timeout = Duration::from_secs(options.timeout.into());
    let socket = Socket::connect_to(address, timeout).map_err(Trouble::NotStarted)?;
    let registered = Caller::register(socket, &options.storage.to_lowercase(), timeout);
    let mut caller = registered.map_err(|error| Trouble::NotStarted(format!("{address}: {error}")))?;
    let failed = |error: CallError| Trouble::Failed(format!("{address}: {error}"));
    let not_by_all = |method: &'static str| {
        move |error: CallError| match error {
            CallError::Closed => Trouble::Failed(format!(
                "{address}: it closed the connection when {method} was called: ZEO's own server does not know it"
            )),
            error => failed(error),
        }
    };
    let mut show = Show::new(options.quiet);
    if options.cancel {
        let cancelled = caller.call("pack_cancel", &[], timeout).map_err(not_by_all("pack_cancel"))?;
        if cancelled != Value::Bool(true) {
            return Err(Trouble::Failed(format!("{address}: there is no pack under way")));
        }
        show.end("the pack is being cancelled");
    } else if options.dry_run {
        let estimate = wait(&mut caller, "pack_estimate", &[Value::Float(time)], &mut show);
        let estimate = estimate.map_err(not_by_all("pack_estimate"))?;
        let bytes = |name| number(&estimate, name).unwrap_or_default();
        show.end(&show::estimate(bytes("before"), bytes("after")));
    } else if options.no_wait {
        caller.call("pack", &[Value::Float(time), Value::Bool(false)], timeout).map_err(failed)?;
        show.end("the pack has been started; the log of the server says what becomes of it");
    } else {
        let before = size(&mut caller, timeout).map_err(failed)?;
        wait(&mut caller, "pack", &[Value::Float(time), Value::Bool(true)], &mut show).map_err(failed)?;
        let after = size(&mut caller, timeout).map_err(failed)?;
        show.end(&show::packed(before, after));
    }
    Ok(())
}

fn size(caller: &mut Caller, timeout: Duration) -> Result<u64, CallError> {
    let info = caller.call("get_info", &[], timeout)?;
    Ok(number(&info, "size").unwrap_or_default())
}

/// Calls a method that takes long, and shows meanwhile how far the pack is.
fn wait(caller: &mut Caller, method: &str, arguments: &[Value], show: &mut Show) -> Result<Value, CallError> {
    let wanted = caller.send(method, arguments)?;
    let mut asked = None;
    loop {
        match caller.reply(LOOK_EVERY)? {
            Some((number, result)) if number == wanted => return result,
            Some((number, result)) if asked == Some(number) => {
                asked = None;
                if let Some(status) =
                    result.ok().as_ref().and_then(|status| get(status, "pack")).and_then(pack_status)
                {
                    show.progress(&status);
                }
            }
            Some(_) => {}
            None if asked.is_none() => asked = Some(caller.send("server_status", &[])?),
            // It is busy, and nothing says that it is gone.
            None => {}
        }
    }
}

fn pack_status(value: &Value) -> Option<PackStatus> {
    let text = |name| match get(value, name) {
        Some(Value::Str(text)) => Some(text.chars().filter(|c| !c.is_control()).collect()),
        _ => None,
    };
    Some(PackStatus {
        phase: text("phase")?,
        done: number(value, "done")?,
        total: number(value, "total")?,
        unit: text("unit")?,
        percent: number(value, "percent")?,
        since: 0.0,
        seconds_left: number(value, "seconds-left"),
    })
}

/// The value of a dict that has this name.
fn get<'a>(dict: &'a Value, name: &str) -> Option<&'a Value> {
    let Value::Dict(entries) = dict else { return None };
    entries.iter().find(|(key, _)| matches!(key, Value::Str(key) if key == name)).map(|(_, value)| value)
}

fn number(dict: &Value, name: &str) -> Option<u64> {
    match get(dict, name) {
        Some(Value::Int(number)) => u64::try_from(*number).ok(),
        _ => None,
    }
}

const LOOK_EVERY: Duration = Duration::from_millis(500);
