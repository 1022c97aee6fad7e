/**
 * An MCP agent on the npm SDK 1.x: its tool `work(n)` makes the calls of KINDS.
 * One McpServer a session (or a request, with STATELESS), as its examples do.
 */
import { randomUUID } from 'node:crypto';
import express from 'express';
import { z } from 'zod';
import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js';
import { McpServer } from '@modelcontextprotocol/sdk/server/mcp.js';
import { StreamableHTTPServerTransport } from '@modelcontextprotocol/sdk/server/streamableHttp.js';
import { serve } from './mcp_agent.mjs';

serve({ Client, ClientTransport: StreamableHTTPClientTransport, McpServer, ServerTransport: StreamableHTTPServerTransport, express, randomUUID, z });
