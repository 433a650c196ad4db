using System.Net.Sockets;
using System.Text;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Http;

namespace Backend.Toolkit.TimeoutBudgets.AspNetCore.Tests;

/// <summary>Clients that hang up.</summary>
public sealed class ClientTests
{
    private readonly TaskCompletionSource _inside = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private readonly string _name = "client-" + Guid.NewGuid();

    [Theory]
    [InlineData("cancelled", null)]
    [InlineData("wrapped", "100")]
    [InlineData("IO", "100")]
    [InlineData("returns", "100")]
    [InlineData("writes", "100")]
    [InlineData("returns", null)]
    public async Task A_client_that_hangs_up_cancels_the_handler_and_is_a_499_and_no_error(string how, string? budget)
    {
        using var metrics = new Metrics(_name);
        await using Server server = await StartAsync(async (context, token) =>
        {
            await Eventually.UntilLate(token);
            switch (how)
            {
                case "cancelled":
                    throw new OperationCanceledException(token);
                case "wrapped":
                    throw new HttpRequestException("", new OperationCanceledException(token));
                case "IO":
                    throw new IOException();
                case "writes":
                    await context.Response.WriteAsync("late", CancellationToken.None);
                    break;
            }
        });

        await HangUpAsync(server, budget);

        Eventually.BeTrue(() => server.Statuses.Count == 1, "the hang-up reaches the handler");
        server.Statuses.Should().Equal(499);
        metrics.Counts.Should().BeEquivalentTo(new Dictionary<string, long> { ["client_closed"] = 1 });
        server.Errors.Should().BeEmpty();
    }

    [Fact]
    public async Task When_the_client_hangs_up_and_the_time_runs_out_too_the_client_wins()
    {
        using var metrics = new Metrics(_name);
        Server? server = null;
        server = await StartAsync(async (_, token) =>
        {
            await Eventually.UntilLate(token);
            server!.Time.Advance(TimeSpan.FromMilliseconds(100));
            throw new OperationCanceledException(token);
        });
        await using Server disposed = server;

        await HangUpAsync(server, "100");

        Eventually.BeTrue(() => server.Statuses.Count == 1, "the hang-up reaches the handler");
        server.Statuses.Should().Equal(499);
        metrics.Counts.Should().BeEquivalentTo(new Dictionary<string, long> { ["client_closed"] = 1 });
    }

    [Fact]
    public async Task A_failure_of_another_kind_is_an_error_also_when_the_client_has_gone()
    {
        using var metrics = new Metrics(_name);
        await using Server server = await StartAsync(async (_, token) =>
        {
            await Eventually.UntilLate(token);
            throw new FormatException("ours");
        });

        await HangUpAsync(server, "100");

        Eventually.BeTrue(() => server.Errors.Any(error => error.Contains("ours", StringComparison.Ordinal)), "the server logs it");
        metrics.Counts.Should().BeEmpty();
    }

    [Fact]
    public async Task A_started_response_keeps_its_status_when_the_client_goes()
    {
        using var metrics = new Metrics(_name);
        await using Server server = await StartAsync(async (context, token) =>
        {
            await context.Response.WriteAsync("begun", CancellationToken.None);
            await Eventually.UntilCancelled(token);
        });

        await HangUpAsync(server, "100");

        Eventually.BeTrue(() => server.Statuses.Count == 1, "the hang-up reaches the handler");
        server.Statuses.Should().Equal(200);
        metrics.Counts.Should().BeEquivalentTo(new Dictionary<string, long> { ["client_closed"] = 1 });
        server.Errors.Should().BeEmpty();
    }

    [Theory]
    [InlineData(null)]
    [InlineData("100")]
    public async Task A_client_that_goes_with_its_answer_before_the_handler_has_returned_is_no_499(string? budget)
    {
        using var metrics = new Metrics(_name);
        await using Server server = await StartAsync(async (context, token) =>
        {
            context.Response.ContentLength = 5;
            await context.Response.WriteAsync("whole", CancellationToken.None);
            await Eventually.UntilLate(token);
        });

        await HangUpAsync(server, budget);

        Eventually.BeTrue(() => server.Statuses.Count == 1, "the hang-up reaches the handler");
        metrics.Counts.Should().BeEmpty();
        server.Errors.Should().BeEmpty();
    }

    private Task<Server> StartAsync(Func<HttpContext, CancellationToken, Task> handle) => Server.StartAsync(
        app => app.MapGet("/", async (HttpContext context, CancellationToken token) =>
        {
            Task handling = handle(context, token);
            _inside.SetResult();
            await handling;
        }),
        services => services.AddTimeoutBudgets(o => o.Name = _name));

    private async Task HangUpAsync(Server server, string? budget)
    {
        using TcpClient connection = await server.ConnectAsync();
        string header = budget is null ? "" : $"Timeout-Budget: {budget}\r\n";
        await connection.GetStream().WriteAsync(Encoding.ASCII.GetBytes($"GET / HTTP/1.1\r\nHost: a\r\n{header}\r\n"));
        await _inside.Task.Soon();
        connection.LingerState = new LingerOption(true, 0);
    }
}
