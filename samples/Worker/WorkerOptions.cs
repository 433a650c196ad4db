namespace Worker;

/// <summary>How messages are taken from the queue.</summary>
internal sealed class WorkerOptions
{
    /// <summary>How many messages are in hand at once, at most; 1 to 16.</summary>
    public int Consumers { get; set; } = 4;

    /// <summary>How long a message that was taken is hidden from others; 1 s to 12 h. The work on it gets nine tenths: then there is time to give it back before the queue delivers it again.</summary>
    public TimeSpan Visibility { get; set; } = TimeSpan.FromSeconds(10);

    /// <summary>How often a message is delivered before it is buried; 1 to 100.</summary>
    public int MaxDeliveries { get; set; } = 5;

    /// <summary>How old a message may be that is still worth sending; 1 s to 14 days. Older ones are buried.</summary>
    public TimeSpan Retention { get; set; } = TimeSpan.FromDays(1);

    /// <summary>How long a message that failed waits, times its deliveries; 1 ms to 1 h.</summary>
    public TimeSpan RedeliveryDelay { get; set; } = TimeSpan.FromMilliseconds(500);

    /// <summary>How long what is in hand may take to finish when the worker is told to stop; 0 to 20 s. Then it is given back.</summary>
    public TimeSpan Grace { get; set; } = TimeSpan.FromSeconds(5);

    public IEnumerable<string> Problems()
    {
        if (Consumers is < 1 or > 16)
        {
            yield return $"Worker: Consumers must be between 1 and 16, but is {Consumers}.";
        }

        if (Visibility < TimeSpan.FromSeconds(1) || Visibility > TimeSpan.FromHours(12))
        {
            yield return $"Worker: Visibility must be between 00:00:01 and 12:00:00, but is {Visibility}.";
        }

        if (MaxDeliveries is < 1 or > 100)
        {
            yield return $"Worker: MaxDeliveries must be between 1 and 100, but is {MaxDeliveries}.";
        }

        if (Retention < TimeSpan.FromSeconds(1) || Retention > TimeSpan.FromDays(14))
        {
            yield return $"Worker: Retention must be between 00:00:01 and 14.00:00:00, but is {Retention}.";
        }

        if (RedeliveryDelay < TimeSpan.FromMilliseconds(1) || RedeliveryDelay > TimeSpan.FromHours(1))
        {
            yield return $"Worker: RedeliveryDelay must be between 00:00:00.001 and 01:00:00, but is {RedeliveryDelay}.";
        }

        if (Grace < TimeSpan.Zero || Grace > TimeSpan.FromSeconds(20))
        {
            yield return $"Worker: Grace must be between 00:00:00 and 00:00:20, but is {Grace}.";
        }
    }
}
