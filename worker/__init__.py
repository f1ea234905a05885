"""The control plane's clock: jobs that run by the calendar or when the console asks. See worker.app."""
