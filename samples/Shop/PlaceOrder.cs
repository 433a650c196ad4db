using System.Data.Common;
using Backend.Toolkit.CircuitBreakers;
using Backend.Toolkit.Idempotency;
using Backend.Toolkit.Idempotency.AspNetCore;
using Backend.Toolkit.TimeoutBudgets;
using Backend.Toolkit.Webhooks.Delivery;

namespace Shop;

/// <summary>What POST /orders does. An order is stored before it is charged: one whose charge had no answer stays pending, and is not lost.</summary>
internal sealed class PlaceOrder(DbConnection connection, PaymentsClient payments, WebhookOutbox outbox, TimeProvider time)
{
    /// <summary>Under the key of the request: whoever asks again, also after a crash, goes on with the same order and gets the same answer.</summary>
    public async Task<IResult> OnceAsync(NewOrder request, HttpContext context, CancellationToken cancellationToken)
    {
        if (request.Problems() is { Count: > 0 } problems)
        {
            return Results.ValidationProblem(problems);
        }

        IdempotentOperation operation = context.GetIdempotentOperation();
        Order order = await operation.PhaseAsync("place", connection, async (transaction, ct) => await OrderStore.AddAsync(New(request), transaction, ct), ShopJson.Default.Order, cancellationToken);
        return await AnswerAsync(order, context, async () =>
        {
            // While payments is asked no transaction is open, and no connection held that others need. However often it is asked, the key is the same.
            await connection.CloseAsync();
            bool isPaid = await operation.PhaseAsync("charge", ct => payments.ChargeAsync(order, operation.DownstreamKey("charge"), ct), ShopJson.Default.Boolean, cancellationToken);

            // The order, its event and the answer are one commit, which UseIdempotency makes.
            DbTransaction transaction = await operation.BeginTransactionAsync(connection, cancellationToken);
            return await OrderStore.SettleAsync(order, isPaid, outbox, transaction, cancellationToken);
        });
    }

    /// <summary>Without the toolkit: each request is a new order.</summary>
    public async Task<IResult> PlainAsync(NewOrder request, HttpContext context, CancellationToken cancellationToken)
    {
        if (request.Problems() is { Count: > 0 } problems)
        {
            return Results.ValidationProblem(problems);
        }

        await connection.OpenAsync(cancellationToken);
        Order order;
        await using (DbTransaction transaction = await connection.BeginTransactionAsync(cancellationToken))
        {
            order = await OrderStore.AddAsync(New(request), transaction, cancellationToken);
            await transaction.CommitAsync(cancellationToken);
        }

        return await AnswerAsync(order, context, async () =>
        {
            bool isPaid = await payments.ChargeAsync(order, $"{order.Id}", cancellationToken);
            await using DbTransaction transaction = await connection.BeginTransactionAsync(cancellationToken);
            Order settled = await OrderStore.SettleAsync(order, isPaid, outbox, transaction, cancellationToken);
            await transaction.CommitAsync(cancellationToken);
            return settled;
        });
    }

    private static async Task<IResult> AnswerAsync(Order order, HttpContext context, Func<Task<Order>> pay)
    {
        try
        {
            order = await pay();
            return order.Status == OrderStatus.Paid ? Results.Created($"/orders/{order.Id}", order) : Problem(StatusCodes.Status402PaymentRequired, "The payment was declined.", order);
        }
        catch (CircuitOpenException open)
        {
            context.Response.Headers.RetryAfter = $"{Math.Max(1, Math.Ceiling(open.RetryAfter.TotalSeconds))}";
            return Problem(StatusCodes.Status503ServiceUnavailable, "Payments is not available; come back later.", order);
        }
        catch (Exception late) when (late is TimeoutBudgetExceededException or TaskCanceledException && !context.RequestAborted.IsCancellationRequested)
        {
            return Problem(StatusCodes.Status504GatewayTimeout, "Payments did not answer in time.", order);
        }
        catch (HttpRequestException)
        {
            return Problem(StatusCodes.Status502BadGateway, "Payments failed.", order);
        }
    }

    private Order New(NewOrder request) => new(Guid.CreateVersion7(), request.Item, request.Cents, OrderStatus.Pending, time.GetUtcNow());

    private static IResult Problem(int status, string title, Order order) =>
        Results.Problem(statusCode: status, title: title, extensions: new Dictionary<string, object?> { ["orderId"] = order.Id, ["orderStatus"] = order.Status });
}
