namespace Shop;

/// <summary>
/// What is going on: on a terminal in one line that updates in place, elsewhere as lines. What is said stays. Thread-safe.
/// </summary>
internal sealed class Progress : IDisposable
{
    private const string ToStart = "\r\e[K";

    private readonly Lock _lock = new();
    private readonly TextWriter _output;
    private readonly bool _inPlace;
    private readonly TimeProvider _time;
    private readonly ITimer? _tick;
    private string? _step;
    private long _since;

    /// <param name="output">Where to.</param>
    /// <param name="terminalWidth">0: it is no terminal.</param>
    /// <param name="time">Default: the system's.</param>
    /// <param name="inPlace">False: in lines on a terminal, too.</param>
    public Progress(TextWriter output, int terminalWidth = 0, TimeProvider? time = null, bool inPlace = true)
    {
        (_output, Width, _time, _inPlace) = (output, terminalWidth, time ?? TimeProvider.System, inPlace && terminalWidth > 0);
        if (_inPlace)
        {
            _tick = _time.CreateTimer(_ => Draw(), null, TimeSpan.FromSeconds(1), TimeSpan.FromSeconds(1));
        }
    }

    /// <summary>How many columns a line has; 0: as many as it needs.</summary>
    public int Width { get; }

    /// <summary>In place on a terminal that knows how to, unless the user wants none of it.</summary>
    public static Progress OfConsole()
    {
        bool inPlace = string.IsNullOrEmpty(Environment.GetEnvironmentVariable("NO_COLOR")) && Environment.GetEnvironmentVariable("TERM") is not (null or "" or "dumb");

        // A terminal that does not tell its width says 0.
        return new Progress(Console.Out, Console.IsOutputRedirected ? 0 : Console.WindowWidth is > 0 and int width ? width : 80, inPlace: inPlace);
    }

    /// <summary>What is done now.</summary>
    public void Step(string what)
    {
        lock (_lock)
        {
            (_step, _since) = (what, _time.GetTimestamp());
            if (!_inPlace)
            {
                _output.WriteLine(what);
            }
        }

        Draw();
    }

    /// <summary>Lines that stay.</summary>
    public void Say(string text)
    {
        lock (_lock)
        {
            Clear();
            _output.WriteLine(text);
        }
    }

    public void Dispose()
    {
        _tick?.Dispose();
        lock (_lock)
        {
            Clear();
        }
    }

    private void Draw()
    {
        lock (_lock)
        {
            if (_inPlace && _step is not null)
            {
                // A line that wraps could not be drawn over.
                string line = $"{_step} ({(int)_time.GetElapsedTime(_since).TotalSeconds} s)";
                _output.Write(ToStart + line[..Math.Min(line.Length, Width - 1)]);
            }
        }
    }

    private void Clear()
    {
        if (_inPlace && _step is not null)
        {
            _output.Write(ToStart);
        }

        _step = null;
    }
}
