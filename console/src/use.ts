// What a page asks the server for, and what came of it.

import { useCallback, useEffect, useRef, useState } from "preact/hooks";
import { call, Fault, type Answer } from "./api.ts";

export interface Loaded<T> {
  value: T | undefined;
  fault: Fault | null;
  isLoading: boolean;
  /** Asks again; what is shown stays until the answer comes. */
  reload: () => void;
  /** Replaces what is shown, after a change that the page made itself. */
  set: (value: T) => void;
}

/** Loads a path, and again whenever it changes; null loads nothing. */
export function useLoaded<T>(path: string | null, everyMs = 0): Loaded<T> {
  const [state, setState] = useState<{ path: string | null; value?: T; fault: Fault | null; isLoading: boolean }>({
    path: null,
    fault: null,
    isLoading: true,
  });
  const running = useRef<AbortController | null>(null);
  const load = useCallback(async () => {
    running.current?.abort();
    if (path === null) return;
    const control = (running.current = new AbortController());
    setState((was) => ({ ...(was.path === path ? was : { fault: null }), path, isLoading: true }));
    try {
      const { value } = await call<T>(path, { signal: control.signal });
      if (!control.signal.aborted) setState({ path, value, fault: null, isLoading: false });
    } catch (error) {
      if (!control.signal.aborted) setState((was) => ({ ...was, fault: asFault(error), isLoading: false }));
    }
  }, [path]);
  useEffect(() => {
    void load();
    const timer = everyMs > 0 ? setInterval(() => document.hidden || void load(), everyMs) : 0;
    return () => {
      clearInterval(timer);
      running.current?.abort();
    };
  }, [load, everyMs]);
  return {
    value: state.path === path ? state.value : undefined,
    fault: state.fault,
    isLoading: state.isLoading,
    reload: () => void load(),
    set: (value) => setState((was) => ({ ...was, value })),
  };
}

export interface Work {
  fault: Fault | null;
  isBusy: boolean;
  /** Runs once at a time. Returns whether it went well. */
  run: (work: () => Promise<unknown>) => Promise<boolean>;
}

/** Runs what a button does, and keeps what went wrong. */
export function useWork(): Work {
  const [state, setState] = useState<{ fault: Fault | null; isBusy: boolean }>({ fault: null, isBusy: false });
  const busy = useRef(false);
  return {
    ...state,
    run: async (work) => {
      if (busy.current) return false;
      busy.current = true;
      setState({ fault: null, isBusy: true });
      try {
        await work();
        setState({ fault: null, isBusy: false });
        return true;
      } catch (error) {
        setState({ fault: asFault(error), isBusy: false });
        return false;
      } finally {
        busy.current = false;
      }
    },
  };
}

export function asFault(error: unknown): Fault {
  return error instanceof Fault ? error : new Fault(-1, error instanceof Error ? error.message : String(error));
}

export type { Answer };
