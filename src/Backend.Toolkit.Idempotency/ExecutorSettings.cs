namespace Backend.Toolkit.Idempotency;

/// <summary>What an operation needs of the options, as they were when it was begun.</summary>
internal sealed class ExecutorSettings(IdempotencyOptions options)
{
    public TimeSpan Lease { get; } = options.Lease;

    public TimeSpan Retention { get; } = options.Retention;

    public int MaxOutcomeBytes { get; } = options.MaxOutcomeBytes;

    public DuplicatePolicy Duplicates { get; } = options.Duplicates;

    public DuplicatePolicy DuplicatesInTransaction { get; } = options.DuplicatesInTransaction;

    public TimeSpan MaxWait { get; } = options.MaxWait;

    public Func<TimeSpan?>? TimeLeft { get; } = options.TimeLeft;

    public Func<string>? Subject { get; } = options.Subject;

    public bool StoreRequired { get; } = options.StoreRequired;

    public bool RefuseExpiredKeys { get; } = options.RefuseExpiredKeys;

    public byte[]? Secret { get; } = KeyHash.SecretBytes(options.Secret);

    public bool HasPrevious { get; } = options.PreviousSecret is not null;

    public byte[]? PreviousSecret { get; } = KeyHash.SecretBytes(options.PreviousSecret);
}
