using Microsoft.Extensions.Logging;

namespace Backend.Toolkit.Idempotency;

internal static partial class Log
{
    [LoggerMessage(1, LogLevel.Error, "Idempotency options '{Name}': the reloaded options are invalid, the last valid ones stay in force. {Problems}")]
    public static partial void InvalidReload(ILogger logger, string name, string problems);

    [LoggerMessage(2, LogLevel.Warning, "Idempotency '{Name}' keeps its records in the memory of this process: another node, or this one after a restart, runs the same key again. Register a store, such as AddPostgreSqlIdempotencyStore, or AddMemoryIdempotencyStore to say that memory will do.")]
    public static partial void MemoryStoreOutsideDevelopment(ILogger logger, string name);

    [LoggerMessage(3, LogLevel.Error, "Idempotency '{Name}': the store does not answer; requests with a key {Instead}.")]
    public static partial void StoreDown(ILogger logger, Exception exception, string name, string instead);

    [LoggerMessage(4, LogLevel.Information, "Idempotency '{Name}': the store answers again.")]
    public static partial void StoreUp(ILogger logger, string name);

    [LoggerMessage(5, LogLevel.Warning, "Idempotency '{Name}': a run outlived its lease, {Why}; its token is cancelled.")]
    public static partial void LeaseLost(ILogger logger, string name, string why);

    [LoggerMessage(6, LogLevel.Error, "Idempotency '{Name}': a run ended, but its outcome could not be recorded; when the lease has ended a repeat runs again with the same downstream keys.")]
    public static partial void NotRecorded(ILogger logger, Exception exception, string name);

    [LoggerMessage(7, LogLevel.Error, "Idempotency '{Name}': TimeLeft threw; there is no deadline.")]
    public static partial void TimeLeftThrew(ILogger logger, Exception exception, string name);

    [LoggerMessage(8, LogLevel.Warning, "Idempotency store '{Name}' is full of live records ({Records} records, {Bytes} bytes): new keys are refused until some expire. Raise MaxRecords or MaxBytes, or shorten Retention.")]
    public static partial void StoreFull(ILogger logger, string name, int records, long bytes);
}
