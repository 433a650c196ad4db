using Microsoft.Data.Sqlite;

namespace Worker;

/// <summary>What is wrong with the provider.</summary>
internal enum Fault
{
    None,

    /// <summary>Answers 503.</summary>
    Failing,

    /// <summary>Sends nothing and never answers.</summary>
    Hanging,

    /// <summary>Sends, and never answers.</summary>
    Silent,
}

/// <summary>The provider has not sent it; later it may.</summary>
/// <param name="status">500: it is there, and cannot cope with this text. All others are about the provider.</param>
/// <param name="message">Its words.</param>
internal sealed class SmsFailedException(int status, string message) : Exception($"{status}: {message}")
{
    public int Status => status;
}

/// <summary>It can never be sent.</summary>
internal sealed class SmsRefusedException(string message) : Exception(message);

/// <summary>
/// The other side, which in earnest is somewhere else: sends texts, once for each key; allows <see cref="CallsPerSecond"/>, and counts them its own way. What it sent is in a file,
/// since it outlives a worker that is killed.
/// </summary>
internal sealed class SmsProvider
{
    /// <summary>No second, wherever it begins, may hold more.</summary>
    public const int CallsPerSecond = 50;

    private readonly string _database;
    private readonly TimeProvider _time;
    private readonly Queue<long> _lastSecond = [];
    private volatile Fault _fault;
    private int _calls;
    private int _throttled;
    private int _repeats;

    public SmsProvider(string file, TimeProvider time)
    {
        _time = time;
        _database = new SqliteConnectionStringBuilder { DataSource = file }.ToString();
        using SqliteConnection connection = Open();
        using SqliteCommand create = connection.CreateCommand();
        create.CommandText = "PRAGMA journal_mode = WAL; CREATE TABLE IF NOT EXISTS sent (key TEXT PRIMARY KEY, number TEXT NOT NULL, text TEXT NOT NULL) STRICT";
        create.ExecuteNonQuery();
    }

    public Fault Fault { get => _fault; set => _fault = value; }

    public TimeSpan Latency { get; set; } = TimeSpan.FromMilliseconds(5);

    public int Calls => _calls;

    /// <summary>Calls that were answered 429.</summary>
    public int Throttled => _throttled;

    /// <summary>Calls under a key under which it had sent before.</summary>
    public int Repeats => _repeats;

    /// <summary>The most calls that any second held.</summary>
    public int Busiest { get; private set; }

    /// <summary>Sends a text, or answers as before when it was sent under that key.</summary>
    /// <returns>A receipt.</returns>
    public async Task<string> SendAsync(string key, Reminder reminder, CancellationToken cancellationToken)
    {
        CountCall();
        await Task.Delay(Latency, _time, cancellationToken);
        Fault fault = _fault;
        switch (fault)
        {
            case Fault.Failing:
                throw new SmsFailedException(503, "the provider is down");
            case Fault.Hanging:
                await Task.Delay(Timeout.InfiniteTimeSpan, _time, cancellationToken);
                break;
        }

        if (!reminder.Number.StartsWith('+'))
        {
            throw new SmsRefusedException($"400: a number must begin with +, but this one is {reminder.Number}");
        }

        if (reminder.Text.Contains('\0', StringComparison.Ordinal))
        {
            throw new SmsFailedException(500, "the provider cannot cope with this text");
        }

        using (SqliteConnection connection = Open())
        using (SqliteCommand insert = connection.CreateCommand())
        {
            insert.CommandText = "INSERT OR IGNORE INTO sent (key, number, text) VALUES ($key, $number, $text)";
            insert.Parameters.AddWithValue("$key", key);
            insert.Parameters.AddWithValue("$number", reminder.Number);
            insert.Parameters.AddWithValue("$text", reminder.Text);
            if (await insert.ExecuteNonQueryAsync(CancellationToken.None) == 0)
            {
                Interlocked.Increment(ref _repeats);
            }
        }

        if (fault == Fault.Silent)
        {
            await Task.Delay(Timeout.InfiniteTimeSpan, _time, cancellationToken);
        }

        return $"receipt for {key}";
    }

    /// <summary>What people have got on their telephones.</summary>
    public async Task<List<Reminder>> SentAsync()
    {
        using SqliteConnection connection = Open();
        using SqliteCommand select = connection.CreateCommand();
        select.CommandText = "SELECT number, text FROM sent";
        using SqliteDataReader reader = await select.ExecuteReaderAsync();
        List<Reminder> sent = [];
        while (await reader.ReadAsync())
        {
            sent.Add(new Reminder(reader.GetString(0), reader.GetString(1)));
        }

        return sent;
    }

    private void CountCall()
    {
        Interlocked.Increment(ref _calls);
        lock (_lastSecond)
        {
            long now = _time.GetTimestamp();
            while (_lastSecond.TryPeek(out long first) && _time.GetElapsedTime(first, now) >= TimeSpan.FromSeconds(1))
            {
                _lastSecond.Dequeue();
            }

            _lastSecond.Enqueue(now);
            Busiest = Math.Max(Busiest, _lastSecond.Count);
            if (_lastSecond.Count <= CallsPerSecond)
            {
                return;
            }
        }

        Interlocked.Increment(ref _throttled);
        throw new SmsFailedException(429, $"the provider allows {CallsPerSecond} calls a second");
    }

    private SqliteConnection Open()
    {
        var connection = new SqliteConnection(_database);
        connection.Open();
        return connection;
    }
}
