using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Diagnostics;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Http.Features;
using Microsoft.AspNetCore.WebUtilities;
using Microsoft.Extensions.DependencyInjection;

namespace Backend.Toolkit.Idempotency.AspNetCore.Tests;

/// <summary>What a real server does not do on request: streams that throw, clients that leave at one exact point.</summary>
public sealed class WithoutServerTests
{
    private readonly TestStore _store = new(new MemoryIdempotencyStore(new MemoryIdempotencyStoreOptions()));
    private readonly DefaultHttpContext _context = new();
    private readonly CancellationTokenSource _client = new();
    private RequestDelegate _handler = static _ => Task.CompletedTask;
    private Action<HttpIdempotencyOptions>? _options;
    private IdempotencyMode _mode;

    [Fact]
    public async Task A_client_that_has_gone_before_the_claim_claims_nothing()
    {
        _context.Request.Body = new HookStream(onRead: _client.Cancel);

        await RunAsync();

        _context.Response.StatusCode.Should().Be(499);
        _store.AllCalls.Should().Be(0);
    }

    [Theory]
    [InlineData(10)]
    [InlineData(100_000)]
    public async Task A_response_that_finds_nobody_is_recorded_and_fails_quietly(int size)
    {
        _context.Features.Set<IHttpResponseBodyFeature>(new StreamResponseBodyFeature(new BrokenStream()));
        _handler = async context =>
        {
            await _client.CancelAsync();
            await context.Response.Body.WriteAsync(new byte[size]);
            await context.Response.Body.WriteAsync(new byte[size]);
        };

        await RunAsync();

        _store.Calls(Verb.Complete).Should().Be(1);
    }

    [Fact]
    public async Task A_transaction_is_rolled_back_before_its_failure_is_answered()
    {
        var connection = new TestConnection();
        bool? rolledBack = null;
        _mode = IdempotencyMode.Transaction;
        _context.Features.Set<IHttpResponseBodyFeature>(new StreamResponseBodyFeature(new HookStream(onWrite: () => rolledBack = connection.Transactions.Single().IsRolledBack)));
        _handler = async context =>
        {
            await context.GetIdempotentOperation().BeginTransactionAsync(connection);
            context.Response.StatusCode = 500;
            await context.Response.WriteAsync("no");
        };

        await RunAsync();

        rolledBack.Should().BeTrue();
    }

    [Fact]
    public async Task A_response_that_cannot_be_sent_to_somebody_fails_loudly_and_stays_recorded()
    {
        _context.Features.Set<IHttpResponseBodyFeature>(new StreamResponseBodyFeature(new BrokenStream()));
        _handler = context => context.Response.WriteAsync("broken");

        await this.Invoking(test => test.RunAsync()).Should().ThrowAsync<IOException>();

        _store.Calls(Verb.Complete).Should().Be(1);
    }

    [Fact]
    public async Task All_that_was_replaced_is_given_back_whatever_the_handler_does()
    {
        object?[] Features() =>
        [
            _context.Features.Get<IHttpResponseFeature>(), _context.Features.Get<IHttpResponseBodyFeature>(), _context.Features.Get<IHttpUpgradeFeature>(),
            _context.Features.Get<RequestIdempotency>(), _context.RequestAborted,
        ];
        _context.RequestAborted = _client.Token;
        _context.Features.Set<IHttpUpgradeFeature>(new NoUpgrade());
        object?[] before = Features();
        object?[] within = [];
        _handler = _ =>
        {
            within = Features();
            throw new IOException("thrown");
        };

        await this.Invoking(test => test.RunAsync()).Should().ThrowAsync<IOException>().WithMessage("thrown");

        Features().Should().Equal(before);
        within.Zip(before).Count(pair => !Equals(pair.First, pair.Second)).Should().Be(5);
    }

    [Fact]
    public async Task A_long_body_is_in_a_file_that_is_gone_afterwards()
    {
        _options = o => o.MaxBytesInMemory = 1000;
        _context.Request.Body = new ForwardOnly(new byte[5000]);
        bool existed = false;
        string? file = null;
        _handler = context =>
        {
            file = ((FileBufferingReadStream)context.Request.Body).TempFileName;
            existed = File.Exists(file);
            return Task.CompletedTask;
        };

        await RunAsync();
        await _context.Request.Body.DisposeAsync();

        (existed, File.Exists(file)).Should().Be((true, false));
    }

    [Fact]
    public async Task A_large_file_is_sent_after_its_record()
    {
        string path = Path.GetTempFileName();
        try
        {
            byte[] content = [.. Enumerable.Range(0, 200_000).Select(i => (byte)i)];
            await File.WriteAllBytesAsync(path, content);
            var sent = new MemoryStream();
            _context.Features.Set<IHttpResponseBodyFeature>(new StreamResponseBodyFeature(sent));
            _handler = async context =>
            {
                await context.Response.SendFileAsync(path, 1, 150_000);
                (_store.Calls(Verb.Complete), sent.Length).Should().Be((1, 150_000));
            };

            await RunAsync();

            sent.ToArray().Should().Equal(content.Skip(1).Take(150_000));
        }
        finally
        {
            File.Delete(path);
        }
    }

    [Fact]
    public async Task What_is_written_after_the_end_goes_nowhere()
    {
        var sent = new MemoryStream();
        _context.Features.Set<IHttpResponseBodyFeature>(new StreamResponseBodyFeature(sent));
        Stream? body = null;
        _handler = context =>
        {
            body = context.Response.Body;
            return context.Response.WriteAsync("in time");
        };

        await RunAsync();
        await body!.WriteAsync("late"u8.ToArray());
        body.Write("late"u8);
        await body.FlushAsync();

        sent.ToArray().Should().Equal("in time"u8.ToArray());
    }

    [Fact]
    public async Task An_exception_that_was_handled_before_the_run_rolls_nothing_back()
    {
        var connection = new TestConnection();
        _mode = IdempotencyMode.Transaction;
        _context.Features.Set<IExceptionHandlerFeature>(new ExceptionHandlerFeature());
        _handler = async context => await context.GetIdempotentOperation().BeginTransactionAsync(connection);

        await RunAsync();

        connection.Transactions.Single().IsCommitted.Should().BeTrue();
    }

    [Fact]
    public async Task A_server_is_told_that_a_stream_is_not_to_be_buffered()
    {
        var server = new Unbuffered();
        _context.Features.Set<IHttpResponseBodyFeature>(server);
        _handler = context =>
        {
            IHttpResponseBodyFeature body = context.Features.GetRequiredFeature<IHttpResponseBodyFeature>();
            body.DisableBuffering();
            return body.Stream.WriteAsync(new byte[10]).AsTask();
        };

        await RunAsync();

        server.IsUnbuffered.Should().BeTrue();
    }

    [Fact]
    public async Task A_tunnel_cannot_run_once()
    {
        _context.Request.Method = "CONNECT";

        await this.Invoking(test => test.RunAsync()).Should().ThrowAsync<InvalidOperationException>().WithMessage("A CONNECT request*");

        _store.AllCalls.Should().Be(0);
    }

    private Task RunAsync()
    {
        IServiceCollection services = new ServiceCollection().AddLogging().AddSingleton<IIdempotencyStore>(_store).AddIdempotency().AddHttpIdempotency(o =>
        {
            o.AllowAnonymous = true;
            _options?.Invoke(o);
        });
        var app = new ApplicationBuilder(services.BuildServiceProvider());
        app.UseIdempotency();
        app.Run(_handler);
        if (_context.Request.Method.Length == 0)
        {
            _context.Request.Method = "POST";
        }

        _context.Request.Headers["Idempotency-Key"] = "key-1";
        _context.RequestAborted = _client.Token;
        _context.SetEndpoint(new Endpoint(_handler, new EndpointMetadataCollection(new IdempotentAttribute { Mode = _mode }), "endpoint"));
        return app.Build()(_context);
    }

    private sealed class BrokenStream : MemoryStream
    {
        public override ValueTask WriteAsync(ReadOnlyMemory<byte> buffer, CancellationToken cancellationToken = default) => ValueTask.FromException(new IOException("broken"));

        public override Task WriteAsync(byte[] buffer, int offset, int count, CancellationToken cancellationToken) => Task.FromException(new IOException("broken"));
    }

    /// <summary>Empty to who reads; tells of reads and writes.</summary>
    private sealed class HookStream(Action? onRead = null, Action? onWrite = null) : MemoryStream
    {
        public override ValueTask<int> ReadAsync(Memory<byte> buffer, CancellationToken cancellationToken = default)
        {
            onRead?.Invoke();
            return ValueTask.FromResult(0);
        }

        public override ValueTask WriteAsync(ReadOnlyMemory<byte> buffer, CancellationToken cancellationToken = default)
        {
            onWrite?.Invoke();
            return ValueTask.CompletedTask;
        }
    }

    private sealed class Unbuffered() : StreamResponseBodyFeature(Stream.Null)
    {
        public bool IsUnbuffered { get; private set; }

        public override void DisableBuffering() => IsUnbuffered = true;
    }

    private sealed class ForwardOnly(byte[] content) : MemoryStream(content)
    {
        public override bool CanSeek => false;
    }
}
